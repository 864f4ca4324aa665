#include "molt/base/staged_directory.h"

#include <unistd.h>

#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt {

namespace fs = std::filesystem;

namespace {

std::string without_slash(const std::string& path) {
  const fs::path p(path);
  return p.has_filename() ? path : p.parent_path().string();
}

/// Directories that are missing will be made, unless a file stands where one must be.
void require_directory_above(const std::string& path) {
  std::error_code error;
  for (fs::path above = fs::path(path).parent_path(); !above.empty(); above = above.parent_path()) {
    const fs::file_status found = fs::status(above, error);
    if (fs::is_directory(found)) return;
    if (fs::exists(found))
      usage_error(path, ": cannot be made, as ", above.string(), " is a file; choose another place");
    if (above == above.parent_path()) return;
  }
}

}  // namespace

void require_free_place(const std::string& path, bool directory) {
  std::error_code error;
  if (path.empty()) usage_error("--out: expected a path, found none");
  if (!fs::exists(fs::symlink_status(path, error))) {
    if (directory) return require_directory_above(path);
    if (!fs::path(path).has_filename()) usage_error(path, ": expected the name of a new file, found a directory's");
    const fs::path parent = fs::path(path).parent_path();
    if (!parent.empty() && !fs::is_directory(parent, error))
      usage_error(path, ": there is no directory ", parent.string(), " to write it to; make that first");
    return;
  }
  if (directory && fs::is_directory(path, error) && fs::is_empty(path, error)) return;
  usage_error(
      path, ": is there already",
      directory ? " and holds something; choose a new directory" : "; choose a new name, nothing is overwritten");
}

StagedDirectory::StagedDirectory(const std::string& path)
    : target_(without_slash(path)), staging_(str(target_, ".tmp.", ::getpid())) {
  make_directories(staging_);
}

StagedDirectory::~StagedDirectory() {
  std::error_code ignored;
  if (!staging_.empty()) fs::remove_all(staging_, ignored);
}

std::string StagedDirectory::file(const std::string& name) const { return (fs::path(staging_) / name).string(); }

void StagedDirectory::commit() {
  std::error_code error;
  sync_directory(staging_);
  fs::remove_all(target_, error);
  fs::rename(staging_, target_, error);
  if (error) system_error(target_, ": cannot be put in place: ", error.message());
  staging_.clear();
  const fs::path parent = fs::path(target_).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
}

}  // namespace molt
