#include "molt/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "molt/base/error.h"

namespace molt::optim {
namespace {

constexpr double kPi = 3.14159265358979323846;

double share_option(const char* name, double value) {
  if (!(value >= 0 && value <= 1)) usage_error(name, ": expected a share between 0 and 1, got ", value);
  return value;
}

/// A stage given as steps or, where that is 0, as a share of the run.
int64_t stage(const char* name, int64_t steps, double ratio, int64_t total) {
  if (steps < 0) usage_error(name, "_steps: expected 0 or more, got ", steps);
  share_option((std::string(name) + "_ratio").c_str(), ratio);
  return steps > 0 ? steps : static_cast<int64_t>(std::ceil(static_cast<double>(total) * ratio));
}

/// a / max(1, b).
double share(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(std::max<int64_t>(1, b)); }

}  // namespace

Schedule::Schedule(const ScheduleConfig& config, int64_t total_steps)
    : total_(total_steps), min_(share_option("min_lr_ratio", config.min_lr_ratio)), power_(config.power) {
  static constexpr std::pair<const char*, Kind> kKinds[] = {
      {"constant", Kind::kConstant}, {"constant_with_warmup", Kind::kConstant}, {"linear", Kind::kLinear},
      {"cosine", Kind::kCosine},     {"cosine_with_min_lr", Kind::kCosine},     {"polynomial", Kind::kPolynomial},
      {"wsd", Kind::kWsd},           {"warmup_stable_decay", Kind::kWsd}};
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const auto& k) { return config.lr_scheduler_type == k.first; });
  if (kind == std::end(kKinds))
    usage_error("lr_scheduler_type: expected constant, linear, cosine, polynomial or wsd, got \"",
                config.lr_scheduler_type, "\"");
  kind_ = kind->second;
  if (total_ < 0) usage_error("schedule: expected 0 or more steps, got ", total_);
  if (!(power_ > 0)) usage_error("power: expected more than 0, got ", power_);
  warmup_ = stage("warmup", config.warmup_steps, config.warmup_ratio, total_);
  if (kind_ != Kind::kWsd) return;

  decay_ = stage("decay", config.decay_steps, config.decay_ratio, total_);
  if (warmup_ + decay_ > total_)
    usage_error("schedule wsd: ", warmup_, " warm-up and ", decay_, " decay steps do not fit into ", total_,
                " steps; lower warmup_steps or decay_steps");
  if (config.decay_type == "linear") {
    decay_type_ = Decay::kLinear;
  } else if (config.decay_type == "1-sqrt") {
    decay_type_ = Decay::kOneMinusSqrt;
  } else if (config.decay_type != "cosine") {
    usage_error("decay_type: expected linear, cosine or 1-sqrt, got \"", config.decay_type, "\"");
  }
}

double Schedule::factor(int64_t step) const {
  auto above_min = [this](double share) { return std::max(0.0, share * (1 - min_) + min_); };
  if (step < warmup_) return kind_ == Kind::kWsd ? above_min(share(step, warmup_)) : share(step, warmup_);
  // Past the end, transformers' cosine would rise again; here the last rate stays.
  const double progress = std::min(1.0, share(step - warmup_, total_ - warmup_));
  switch (kind_) {
    case Kind::kConstant:
      return 1;
    case Kind::kLinear:
      return above_min(std::max(0.0, share(total_ - step, total_ - warmup_)));
    case Kind::kCosine:
      return above_min(0.5 * (1 + std::cos(kPi * progress)));
    case Kind::kPolynomial:
      return above_min(std::pow(1 - progress, power_));
    case Kind::kWsd:
      break;
  }
  const int64_t decayed = step - (total_ - decay_);
  if (decayed < 0) return 1;
  if (decayed >= decay_) return min_;
  const double done = share(decayed, decay_);
  switch (decay_type_) {
    case Decay::kLinear:
      return above_min(1 - done);
    case Decay::kCosine:
      return above_min(0.5 * (1 + std::cos(kPi * done)));
    default:
      return above_min(1 - std::sqrt(done));
  }
}

}  // namespace molt::optim
