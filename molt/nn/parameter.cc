#include "molt/nn/parameter.h"

#include "molt/base/error.h"
#include "molt/tensor/matrix_view.h"

namespace molt::nn {

void Parameter::set(const Tensor& source, const Precision& precision, bool dx) {
  MOLT_CHECK(source.numel() == shape_numel(shape), path, ": ", shape_str(source.shape()), " given for ",
             shape_str(shape));
  precision_ = precision;
  dx_ = dx;
  const Tensor values = source.reshape(shape);
  const Dtype wide = precision.activation();
  if (trained) {
    var = Var::leaf(values.to(wide));
    repack();
    return;
  }
  if (lookup && product && precision.base == precision.compute) {
    var = {};  // rows are read from the packed copy, which holds the same numbers
  } else if (lookup) {
    // Rows are read in place when the file already holds them in the dtype asked for.
    var = Var(values.dtype() == precision.base ? values : values.to(precision.base));
  } else if (!product) {
    var = Var(values.to(wide));
  }
  if (product) {
    const Tensor stored = precision.base == values.dtype() ? values : values.to(precision.base);
    pack(stored);
  }
}

void Parameter::repack() {
  if (!product) return;
  if (packed) {
    packed->repack(matrix_view(var.value()));
  } else {
    pack(var.value());
  }
}

void Parameter::pack(const Tensor& values) {
  packed = std::make_shared<PackedMatrix>(matrix_view(values),
                                          PackOptions{.compute = precision_.compute, .forward = true, .backward = dx_});
}

}  // namespace molt::nn
