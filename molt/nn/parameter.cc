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
  if (keep_source) this->source = values;
  const Dtype wide = precision.activation();
  if (trained) {
    var = Var::leaf(values.to(wide));
    repack();
    return;
  }
  const Dtype kept = precision.lookup();
  if (lookup && product && precision.packed_lookup()) {
    var = {};
  } else if (lookup) {
    // Rows are read in place when the file already holds them in the dtype asked for.
    var = Var(values.dtype() == kept ? values : values.to(kept));
  } else if (!product) {
    var = Var(values.to(wide));
  }
  // Packing widens by itself.
  const bool same = kept == values.dtype() || dtype_size(kept) > dtype_size(values.dtype());
  if (product) pack(same || precision.base == Dtype::kI8 ? values : values.to(kept));
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
  PackOptions options{.compute = precision_.compute, .vocabulary = head, .backward = dx_};
  options.int8 = precision_.base == Dtype::kI8 && !trained;
  if (trained && options.compute == Dtype::kI8) options.compute = Dtype::kBf16;
  packed = std::make_shared<PackedMatrix>(matrix_view(values), options);
}

}  // namespace molt::nn
