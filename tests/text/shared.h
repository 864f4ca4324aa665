// Where the tests find the data that is not part of the repository; what needs it skips where it is absent.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace molt::text {

/// The folder given by MOLT_SHARED, else ../shared beside the repository; empty where there is none.
inline std::string shared_data() {
  std::error_code ignored;
  const char* given = std::getenv("MOLT_SHARED");
  for (const std::string& base : {std::string(given ? given : ""), std::string(MOLT_SOURCE_DIR "/../shared"),
                                  std::string(MOLT_SOURCE_DIR "/../../shared")})
    if (!base.empty() && std::filesystem::is_directory(base + "/data", ignored)) return base + "/data/";
  return "";
}

/// A fresh folder under the system's temporary one, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "molt_test_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace molt::text
