// What an optimizer trains: a leaf, its name, and what is special about it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molt/autograd/var.h"

namespace molt::optim {

struct Parameter {
  std::string name;                         ///< its path; keys checkpoints, so no two are alike
  Var var;                                  ///< f32 or f64, dense. With a set of rows, only those train
  double lr_scale = 1;                      ///< times the learning rate of the step
  bool decay = true;                        ///< weight decay applies
  std::optional<double> weight_decay = {};  ///< instead of the optimizer's
};

}  // namespace molt::optim
