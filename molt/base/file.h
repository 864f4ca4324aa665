// Whole files: read at once, and written so that a crash leaves either the old file or the new one.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace molt {

/// The bytes of a file. Throws UsageError when it is missing, a directory, unreadable or longer than 1 GiB.
std::string read_file(const std::string& path);

/// Writes `path` through a temporary neighbour that is synced and then renamed. Throws SystemError with the cause
/// (no space, no permission); the old file, if any, is then untouched.
void write_file_atomic(const std::string& path, std::string_view bytes);

/// The same for content that is produced piece by piece: `write` gets a sink to call with each piece in order.
using ByteSink = std::function<void(const void* data, size_t size)>;
void write_file_atomic(const std::string& path, const std::function<void(const ByteSink&)>& write);

/// Waits until a directory's entries (names created or renamed in it) have reached the disk.
void sync_directory(const std::string& path);

/// Creates a directory and its parents. Throws SystemError where it cannot.
void make_directories(const std::string& path);

}  // namespace molt
