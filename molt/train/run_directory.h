// The directory of one run: what lies where in it, checkpoints that are whole or absent, and one writer at a time.
//
//   run.json        format version, program version, host, when it began        (marks the directory as a run)
//   recipe.yaml     the recipe as resolved
//   metrics.jsonl   the log (metrics_log.h)
//   tensorboard/    event files
//   checkpoints/    step-000000300/ ...: what training needs to go on
//   adapter/        the result, in the form other tools read
//   report.html
//
// Non-goals: what is inside a checkpoint or an adapter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace molt::train {

/// The version of this layout, written to run.json. A run of another version is refused by name.
constexpr int kRunFormat = 1;

class RunDirectory {
 public:
  /// Makes a new run. The directory may exist only if it is empty. Throws UsageError where it holds something (a run:
  /// says how to resume it), SystemError where it cannot be made.
  static RunDirectory create(const std::string& path, const std::string& recipe);

  /// Opens a run to go on with it, and takes away what killed writers left there. Throws UsageError where there is
  /// none, where it is of another format, and where another process is writing to it.
  static RunDirectory open(const std::string& path);

  /// Whether a run has begun there. A process that is killed before leaves what create() takes for an empty directory.
  static bool begun(const std::string& path);

  /// Whether a process is writing to the run. Never throws: false where it cannot be told.
  static bool busy(const std::string& path);

  RunDirectory(RunDirectory&& other) noexcept;
  RunDirectory& operator=(RunDirectory&&) = delete;
  ~RunDirectory();

  const std::string& path() const { return path_; }
  std::string recipe() const { return path_ + "/recipe.yaml"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string tensorboard() const { return path_ + "/tensorboard"; }
  std::string adapter() const { return path_ + "/adapter"; }
  std::string report() const { return path_ + "/report.html"; }

  /// Where the checkpoint of a step lies once it is committed.
  std::string checkpoint(int64_t step) const;

  /// An empty directory to write the checkpoint of a step into; nobody sees it until it is committed.
  std::string begin_checkpoint(int64_t step) const;

  /// Makes what was written to begin_checkpoint()'s directory the checkpoint of the step: syncs it to the disk, then
  /// renames it. Throws SystemError.
  void commit_checkpoint(int64_t step) const;

  /// Takes away what was written to begin_checkpoint()'s directory.
  void discard_checkpoint(int64_t step) const noexcept;

  /// The steps of all committed checkpoints, ascending.
  std::vector<int64_t> checkpoint_steps() const { return checkpoint_steps(path_); }
  static std::vector<int64_t> checkpoint_steps(const std::string& path);

  /// Removes committed checkpoints except the last `count` and that of step `also` (the best), and what interrupted
  /// writers left.
  void keep_checkpoints(int count, std::optional<int64_t> also = {}) const;

 private:
  explicit RunDirectory(std::string path);
  std::string path_;
  int lock_ = -1;
};

}  // namespace molt::train
