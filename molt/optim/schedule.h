// Learning rate schedules: the factor on the recipe's rate at each optimizer step. "linear", "cosine" and "polynomial"
// are those of transformers' get_scheduler, "wsd" its warmup_stable_decay (Hu et al., "MiniCPM", 2024).
#pragma once

#include <cstdint>
#include <string>

namespace molt::optim {

struct ScheduleConfig {
  /// "constant", "linear", "cosine", "polynomial" or "wsd"; transformers' "constant_with_warmup", "cosine_with_min_lr"
  /// and "warmup_stable_decay" mean the same. Unlike there, warm-up and min_lr_ratio work with every one they fit.
  std::string lr_scheduler_type = "linear";
  int64_t warmup_steps = 0;
  double warmup_ratio = 0;            ///< warm-up as a share of all steps, rounded up; where warmup_steps is 0
  double min_lr_ratio = 0;            ///< the rate at the end, as a share of the highest (not for constant)
  double power = 1;                   ///< polynomial
  int64_t decay_steps = 0;            ///< wsd: steps of the final decay
  double decay_ratio = 0.1;           ///< wsd: the same as a share of all steps, rounded up; where decay_steps is 0
  std::string decay_type = "cosine";  ///< wsd: "linear", "cosine" or "1-sqrt"

  /// Calls v.field(name, member, help) for every key.
  template <class V>
  void visit(V& v) {
    v.field("lr_scheduler_type", lr_scheduler_type, "constant | linear | cosine | polynomial | wsd");
    v.field("warmup_steps", warmup_steps, "optimizer steps over which the learning rate rises");
    v.field("warmup_ratio", warmup_ratio, "the same as a share of all steps; where warmup_steps is 0");
    v.field("min_lr_ratio", min_lr_ratio, "learning rate at the end, as a share of the highest");
    v.field("power", power, "polynomial: the power");
    v.field("decay_steps", decay_steps, "wsd: optimizer steps of the final decay");
    v.field("decay_ratio", decay_ratio, "wsd: the same as a share of all steps; where decay_steps is 0");
    v.field("decay_type", decay_type, "wsd: linear | cosine | 1-sqrt");
  }
};

/// A schedule over a known number of steps.
class Schedule {
 public:
  /// Throws UsageError for an unknown type, a negative number, a share outside [0, 1], or stages longer than the run.
  Schedule(const ScheduleConfig& config, int64_t total_steps);

  /// The factor for optimizer step 0, 1, … (the first step of a warm-up has factor 0, in wsd min_lr_ratio).
  double factor(int64_t step) const;

  int64_t total_steps() const { return total_; }
  int64_t warmup_steps() const { return warmup_; }
  int64_t decay_steps() const { return decay_; }

 private:
  enum class Kind { kConstant, kLinear, kCosine, kPolynomial, kWsd };
  enum class Decay { kLinear, kCosine, kOneMinusSqrt };
  Kind kind_;
  Decay decay_type_ = Decay::kCosine;
  int64_t total_, warmup_, decay_ = 0;
  double min_, power_;
};

}  // namespace molt::optim
