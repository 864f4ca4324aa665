// A directory that appears as a whole or not at all: written beside its place, then renamed.
#pragma once

#include <string>

namespace molt {

/// Throws UsageError unless nothing is at `path`, or (where `directory`) an empty directory: nothing is overwritten
/// silently. A file's directory must be there: only whole directories are made.
void require_free_place(const std::string& path, bool directory);

class StagedDirectory {
 public:
  /// For `path`, which commit() replaces. Throws SystemError where nothing can be written beside it.
  explicit StagedDirectory(const std::string& path);
  /// Goes away with everything in it unless it was committed.
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  /// Where to write: the path of `name` in the directory under construction.
  std::string file(const std::string& name) const;
  const std::string& path() const { return staging_; }
  /// Puts it in its place, with whatever was there gone. Throws SystemError.
  void commit();

 private:
  std::string target_, staging_;
};

}  // namespace molt
