#include "molt/autograd/op_times.h"

#include <algorithm>
#include <map>
#include <utility>

namespace molt {
namespace {

struct Clock {
  std::map<std::pair<std::string, bool>, OpTime> times;
  TimedOp* innermost = nullptr;
  const char* section = nullptr;
};

Clock& clock() {
  thread_local Clock instance;
  return instance;
}

}  // namespace

void start_op_times() {
  clock().times.clear();
  detail::op_times_on = true;
}

std::vector<OpTime> stop_op_times() {
  detail::op_times_on = false;
  std::vector<OpTime> result;
  for (auto& [key, time] : clock().times) result.push_back(std::move(time));
  clock().times.clear();
  std::sort(result.begin(), result.end(), [](const OpTime& a, const OpTime& b) { return a.seconds > b.seconds; });
  return result;
}

void TimedOp::begin(const char* name, bool backward) {
  name_ = name, backward_ = backward;
  outer_ = std::exchange(clock().innermost, this);
  start_ = std::chrono::steady_clock::now();
}

void TimedOp::end() {
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  Clock& c = clock();
  c.innermost = outer_;
  if (outer_) outer_->inner_ += all;
  std::string name = c.section ? std::string(c.section) + "/" + name_ : name_;
  OpTime& time = c.times[{name, backward_}];
  if (time.calls++ == 0) time.name = std::move(name), time.backward = backward_;
  time.seconds += all - inner_;
}

TimedSection::TimedSection(const char* name) : outer_(std::exchange(clock().section, name)) {}
TimedSection::~TimedSection() { clock().section = outer_; }

}  // namespace molt
