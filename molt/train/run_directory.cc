#include "molt/train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/base/system.h"

namespace molt::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kUnfinished = ".unfinished";

/// The step a directory's name stands for; nothing for other names.
std::optional<int64_t> step_of_name(const std::string& name) {
  const std::string prefix = kPrefix;
  if (name.compare(0, prefix.size(), prefix) != 0) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto result = std::from_chars(name.data() + prefix.size(), end, step);
  return result.ec == std::errc() && result.ptr == end && step >= 0 ? std::optional<int64_t>(step) : std::nullopt;
}

void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) system_error(path, ": cannot be opened: ", std::strerror(errno));
  const int refused = ::fsync(fd), cause = errno;
  ::close(fd);
  if (refused && cause != EINVAL) system_error(path, ": cannot be synced: ", std::strerror(cause));
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) system_error(path.string(), ": cannot be removed: ", error.message());
}

/// Whether a name is what write_file_atomic() and its like call a thing that is not finished: "….tmp.PID".
bool is_temporary(const std::string& name) {
  const size_t at = name.rfind(".tmp.");
  return at != std::string::npos && at + 5 < name.size() &&
         name.find_first_not_of("0123456789", at + 5) == std::string::npos;
}

/// The names in a directory; none where it does not exist.
std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    system_error(path, ": cannot be listed: ", error.message());
  return names;
}

/// What a killed process may leave before it had begun a run.
bool left_by_a_beginning(const std::string& name) {
  return name == ".lock" || name == "run.json" || name == "checkpoints" || is_temporary(name);
}

void check_free(const std::string& path) {
  if (RunDirectory::begun(path))
    usage_error(path, ": holds a run already; resume it (--resume) or choose another output directory");
  if (fs::exists(path) && !fs::is_directory(path)) usage_error(path, ": expected a directory, found a file");
  for (const std::string& name : names_in(path)) {
    if (!left_by_a_beginning(name))
      usage_error(path, ": expected a new or empty directory, found \"", name, "\" in it");
  }
}

/// What writers that were killed left. Only the holder of the lock may take it away.
void remove_temporaries(const std::string& path) {
  for (const char* below : {"", "/adapter", "/model"}) {
    for (const std::string& name : names_in(path + below)) {
      if (is_temporary(name)) remove_tree(path + below + "/" + name);
    }
  }
}

}  // namespace

bool RunDirectory::begun(const std::string& path) {
  std::error_code error;
  return fs::exists(path + "/run.json", error) && fs::exists(path + "/recipe.yaml", error);
}

RunDirectory::RunDirectory(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  // The lock belongs to the open file, so it goes with the process however that ends.
  lock_ = ::open((path_ + "/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) system_error(path_, "/.lock: cannot be opened: ", std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return;
  const int cause = errno;
  ::close(std::exchange(lock_, -1));
  if (cause == EWOULDBLOCK) usage_error(path_, ": another process is writing to this run; wait for it or end it");
  // Some network file systems know no locks; then nobody is kept out.
}

RunDirectory RunDirectory::create(const std::string& path, const std::string& recipe) {
  check_free(path);
  make_directories(path);
  RunDirectory run(path);
  check_free(path);  // another process may have been here in between
  remove_temporaries(run.path_);
  OrderedJson json;
  json["format"] = kRunFormat;
  json["molt"] = MOLT_VERSION;
  json["host"] = host_name();
  json["began"] = iso_time_now();
  // The mark of a run comes first, the recipe last: with both the run has begun, whenever the process may be killed.
  write_file_atomic(run.path_ + "/run.json", json.dump(2) + "\n");
  make_directories(run.path_ + "/checkpoints");
  write_file_atomic(run.recipe(), recipe);
  return run;
}

RunDirectory RunDirectory::open(const std::string& path) {
  const std::string mark = path + "/run.json";
  if (!fs::exists(mark)) usage_error(path, ": not a run directory (it has no run.json)");
  const Json json = read_json_file(mark);
  if (!json.is_object() || !json.contains("format") || !json["format"].is_number_integer())
    usage_error(mark, ": expected an object with an integer \"format\"");
  if (json["format"] != kRunFormat)
    usage_error(mark, ": expected run format ", kRunFormat, ", found ", json["format"].dump(),
                "; use the version of molt that wrote it");
  RunDirectory run(path);
  remove_temporaries(run.path_);
  return run;
}

RunDirectory::RunDirectory(RunDirectory&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

std::string RunDirectory::checkpoint(int64_t step) const {
  // Nine digits, so that listings sort; longer numbers keep all of theirs.
  std::string digits = std::to_string(step);
  if (digits.size() < 9) digits.insert(0, 9 - digits.size(), '0');
  return path_ + "/checkpoints/" + kPrefix + digits;
}

std::string RunDirectory::begin_checkpoint(int64_t step) const {
  const std::string path = checkpoint(step) + kUnfinished;
  remove_tree(path);
  make_directories(path);
  return path;
}

void RunDirectory::commit_checkpoint(int64_t step) const {
  const std::string path = checkpoint(step), unfinished = path + kUnfinished;
  for (const auto& entry : fs::recursive_directory_iterator(unfinished)) {
    if (entry.is_regular_file() || entry.is_directory()) sync_path(entry.path().string());
  }
  sync_path(unfinished);
  remove_tree(path);  // a resumed run may reach the same step again
  std::error_code error;
  fs::rename(unfinished, path, error);
  if (error) system_error(path, ": checkpoint cannot be renamed into place: ", error.message());
  sync_path(path_ + "/checkpoints");
}

void RunDirectory::discard_checkpoint(int64_t step) const noexcept {
  std::error_code ignored;
  fs::remove_all(checkpoint(step) + kUnfinished, ignored);
}

bool RunDirectory::busy(const std::string& path) {
  const int fd = ::open((path + "/.lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return held;
}

std::vector<int64_t> RunDirectory::checkpoint_steps(const std::string& path) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(path + "/checkpoints")) {
    if (const auto step = step_of_name(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void RunDirectory::keep_checkpoints(int count, std::optional<int64_t> also) const {
  const std::vector<int64_t> steps = checkpoint_steps();
  const size_t drop = steps.size() - std::min(steps.size(), static_cast<size_t>(std::max(0, count)));
  for (size_t i = 0; i < drop; ++i) {
    if (also && steps[i] == *also) continue;
    // Renamed first: a half removed checkpoint must not look like one.
    const std::string path = checkpoint(steps[i]);
    std::error_code error;
    fs::rename(path, path + kUnfinished, error);
    if (error) system_error(path, ": cannot be removed: ", error.message());
  }
  for (const std::string& name : names_in(path_ + "/checkpoints")) {
    const std::string mark = kUnfinished;
    if (name.size() > mark.size() && name.compare(name.size() - mark.size(), mark.size(), mark) == 0)
      remove_tree(path_ + "/checkpoints/" + name);
  }
}

}  // namespace molt::train
