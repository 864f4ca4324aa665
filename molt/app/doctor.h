// What this machine offers to training, and what stands in its way.
#pragma once

#include <string>
#include <vector>

namespace molt::app {

enum class Health { kOk, kNote, kProblem };

struct Finding {
  std::string name;
  Health health = Health::kOk;
  std::string text;
  std::string advice;  ///< what to do about it; may be empty
};

struct DoctorOptions {
  std::string output_dir = "runs";  ///< where runs would be written
  double seconds = 1.5;             ///< for measurements; 0: none
};

/// Looks at processor, threads, memory, disk and the settings in the environment, and measures products and memory.
std::vector<Finding> examine_machine(const DoctorOptions& options);

}  // namespace molt::app
