// What robustness tests share: a directory with a small tokenizer, base model, data and recipes, made once by the
// program itself, and ways to run the program in which things go wrong.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "molt/base/file.h"
#include "molt/base/str.h"
#include "tests/cli/run.h"

namespace molt::test {

namespace fs = std::filesystem;

/// The recipe's method in the tests that ask for many steps: phases, a sparse method and a dense one.
inline const std::string kSdtAndLora =
    "[{sdt: {warmup_steps: 6, freeze_channels: 0.5}}, {lora: {r: 2, target_modules: [out_proj]}}]";

/// A directory of this process. `@` in texts given to it stands for its path.
class Place {
 public:
  static const Place& the() {
    static const Place place;
    return place;
  }
  ~Place() {
    std::error_code error;
    fs::remove_all(path_, error);
  }

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string filled(std::string text) const {
    for (size_t at; (at = text.find('@')) != std::string::npos;) text.replace(at, 1, path_.string());
    return text;
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << filled(text);
  }
  Ran molt(const std::string& arguments) const { return run_molt(filled(arguments)); }
  /// Shell commands with $MOLT as the program, in this directory.
  Ran script(const std::string& commands) const {
    write("script.sh", "MOLT='" MOLT_BINARY "'; cd @ || exit 99\n" + commands + "\n");
    // run_molt() goes through the shell: the program's own --version comes first and says nothing here.
    Ran ran = run_molt("--version >/dev/null && sh '" + (path_ / "script.sh").string() + "'");
    fs::remove(path_ / "script.sh");
    return ran;
  }
  void works(const std::string& arguments) const {
    const Ran ran = molt(arguments);
    if (ran.code != 0) throw std::runtime_error(arguments + ": " + ran.err);
  }
  void shell(const std::string& commands) const {
    if (std::system(("cd '" + path_.string() + "' && " + filled(commands)).c_str()) != 0)
      throw std::runtime_error("failed: " + commands);
  }

 private:
  Place() : path_(fs::temp_directory_path() / ("molt_robustness_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    std::ofstream(path_ / "text.txt") << "one two three, four five six\nseven eight nine, ten eleven twelve\n";
    std::string data;
    const char* words[] = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};
    for (int i = 0; i < 40; ++i)
      data += str("{\"prompt\": \"", words[i % 10], " ", words[i / 4], "\", \"completion\": \" ", words[(i * 7) % 10],
                  "\"}\n");
    write("data.jsonl", data);
    write("scratch.yaml",
          "from_scratch: {d_model: 16, layers: 2, d_state: 4}\ntokenizer: @/tok\noutput_dir: @/base_run\n"
          "data: {train: @/data.jsonl}\nmethod: full\nmax_steps: 2\nthreads: 1\n");
    write("good.yaml",
          "model: @/base\noutput_dir: @/new\ndata: {train: @/data.jsonl, validation_split: 0.2}\n"
          "method: {lora: {r: 2, target_modules: [in_proj]}}\nmax_steps: 12\nsave_steps: 4\neval_steps: 6\n"
          "tokens_per_batch: 128\nthreads: 1\n");
    works("tokenizer @/text.txt --out @/tok --vocabulary 280");
    works("train @/scratch.yaml");
    fs::rename(path_ / "base_run" / "model", path_ / "base");
    fs::remove_all(path_ / "base_run");
    works("train @/good.yaml output_dir=@/run");
  }

  fs::path path_;
};

/// A failure as a user should meet it: the code, one line with the words, nothing on standard output.
inline void expect_line(const Ran& ran, int code, const std::vector<std::string>& says) {
  std::string errors;  // the line that counts is the last; progress and messages may stand before it
  size_t begin = ran.err.size() > 1 ? ran.err.rfind('\n', ran.err.size() - 2) : std::string::npos;
  errors = ran.err.substr(begin == std::string::npos ? 0 : begin + 1);
  EXPECT_EQ(ran.code, code) << ran.err;
  EXPECT_EQ(errors.rfind("molt: ", 0), 0u) << ran.err;
  int lines = 0;
  for (size_t at = ran.err.find("molt: "); at != std::string::npos; at = ran.err.find("\nmolt: ", at + 1)) ++lines;
  EXPECT_EQ(lines, 1) << ran.err;
  for (const std::string& part : says) EXPECT_TRUE(has(errors, part));
  EXPECT_EQ(ran.out, "");
  if (std::getenv("MOLT_SHOW_LINES")) std::printf("%d  %s", ran.code, errors.c_str());
}

/// Files below a directory by path, but for those whose names hold a time.
inline std::set<std::string> names_below(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = fs::relative(entry.path(), directory).string();
    if (name.find("tfevents") == std::string::npos) names.insert(name);
  }
  return names;
}

/// A file system of its own of so many bytes, for as long as this lives; not everybody may make one.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& size) : path_(path) {
    fs::create_directories(path_);
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  /// "size=2m", or "ro" as flags.
  bool remount(const std::string& options, bool read_only = false) const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | (read_only ? MS_RDONLY : 0), options.c_str()) == 0;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace molt::test
