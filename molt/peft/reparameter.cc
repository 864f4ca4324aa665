#include "molt/peft/reparameter.h"

#include <cmath>

#include "molt/base/rng.h"
#include "molt/ops/dense_add.h"
#include "molt/ops/repeat.h"
#include "molt/ops/reshape.h"
#include "molt/ops/tanh.h"

namespace molt::peft {
namespace {

/// Fills `to` with scale · draw(i) of the generator that `name` keys.
template <class Draw>
void fill(const Var& to, uint64_t seed, const std::string& name, const Draw& draw) {
  const Rng rng(seed, name);
  std::vector<double> values(static_cast<size_t>(to.value().numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = draw(rng, i);
  Tensor value = to.value();
  value.copy_from(Tensor::from(values, value.shape()));
}

}  // namespace

Reparameter::Reparameter(Options options, Dtype dtype) : options_(std::move(options)) {
  const int64_t M = options_.rows, W = options_.width, H = options_.hidden;
  embedding_ = Var::leaf(Tensor::empty({M, W}, dtype));
  up_ = Var::leaf(Tensor::empty({H, W}, dtype));
  up_bias_ = Var::leaf(Tensor::empty({H}, dtype));
  down_ = Var::leaf(Tensor::empty({W, H}, dtype));
  down_bias_ = Var::leaf(Tensor::empty({W}, dtype));
  reset();
}

void Reparameter::reset() {
  const double up = 1 / std::sqrt(static_cast<double>(options_.width));
  const double down = options_.zero ? 0 : 1 / std::sqrt(static_cast<double>(options_.hidden));
  const auto uniform = [](double bound) {
    return [bound](const Rng& rng, size_t i) { return (2 * rng.uniform(i) - 1) * bound; };
  };
  fill(embedding_, options_.seed, options_.name + ".embedding", [](const Rng& rng, size_t i) { return rng.normal(i); });
  fill(up_, options_.seed, options_.name + ".up.weight", uniform(up));
  fill(up_bias_, options_.seed, options_.name + ".up.bias", uniform(up));
  fill(down_, options_.seed, options_.name + ".down.weight", uniform(down));
  fill(down_bias_, options_.seed, options_.name + ".down.bias", uniform(down));
}

Var Reparameter::hidden() const {
  return ops::tanh(ops::dense_add(ops::repeat(up_bias_, options_.rows), embedding_, up_));
}

Var Reparameter::rows() const { return ops::dense_add(ops::repeat(down_bias_, options_.rows), hidden(), down_); }

// The second linear is the factor on the left; its bias is one more product, with ones.
Var Reparameter::columns() const {
  const Dtype dtype = down_.value().dtype();
  Tensor ones = Tensor::empty({options_.rows, 1}, dtype);
  ones.fill(1);
  const Var bias = ops::reshape(down_bias_, {options_.width, 1});
  const Var sum = ops::dense_add(Var(Tensor::zeros({options_.width, options_.rows}, dtype)), bias, Var(ones));
  return ops::dense_add(sum, down_, hidden());
}

std::vector<nn::Trainable> Reparameter::trainables(bool decays) const {
  const std::string& name = options_.name;
  return {{name + ".embedding", embedding_, decays},
          {name + ".up.weight", up_, decays},
          {name + ".up.bias", up_bias_, false},
          {name + ".down.weight", down_, decays},
          {name + ".down.bias", down_bias_, false}};
}

int64_t Reparameter::count() const {
  const int64_t M = options_.rows, W = options_.width, H = options_.hidden;
  return M * W + 2 * H * W + H + W;
}

}  // namespace molt::peft
