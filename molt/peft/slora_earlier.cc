#include "molt/peft/slora_earlier.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/adapter.h"
#include "molt/io/finite.h"
#include "molt/ops/products.h"
#include "molt/peft/lora.h"
#include "molt/peft/patterns.h"

namespace molt::peft {
namespace {

constexpr const char* kSlora = "MOLT_SLORA";

Json molt_file(const std::string& directory) {
  const auto path = std::filesystem::path(directory) / "molt.json";
  return std::filesystem::exists(path) ? read_json_file(path.string()) : Json();
}

bool is_zero(const Tensor& row) {
  const std::vector<double> values = row.values();
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 0; });
}

/// Columns of B that are not zero, and A's rows of the same numbers.
std::pair<Tensor, Tensor> without_idle(const Tensor& A, const Tensor& B) {
  const std::vector<double> b = B.values();
  const int64_t R = B.cols(), O = B.rows();
  std::vector<int64_t> used;
  for (int64_t r = 0; r < R; ++r) {
    bool any = false;
    for (int64_t o = 0; o < O && !any; ++o) any = b[static_cast<size_t>(o * R + r)] != 0;
    if (any) used.push_back(r);
  }
  const auto n = static_cast<int64_t>(used.size());
  const Tensor a = Tensor::empty({n, A.cols()}, A.dtype()), c = Tensor::empty({O, n}, B.dtype());
  for (int64_t i = 0; i < n; ++i) {
    a.row_range(i, 1).copy_from(A.row_range(used[static_cast<size_t>(i)], 1));
    c.col_range(i, 1).copy_from(B.col_range(used[static_cast<size_t>(i)], 1));
  }
  return {a, c};
}

/// scale · B A as a direction; its length is shared evenly when it is taken away.
EarlierDirection direction(Tensor A, Tensor B, double scale) {
  const double norm = product_norm(A, B);
  A = A.clone(), B = B.clone();
  if (norm > 0) {
    A.scale(1 / std::sqrt(norm));
    B.scale(1 / std::sqrt(norm));
  }
  return {A, B, scale * norm};
}

}  // namespace

double product_norm(const Tensor& A, const Tensor& B) {
  const Tensor a = A.to(Dtype::kF64), b = B.to(Dtype::kF64);
  const int64_t R = a.rows();
  const Tensor aa = Tensor::empty({R, R}, Dtype::kF64), bb = Tensor::empty({R, R}, Dtype::kF64);
  ops::multiply(false, true, 1, a, a, {aa, false});
  ops::multiply(true, false, 1, b, b, {bb, false});
  const std::vector<double> x = aa.values(), y = bb.values();
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return std::sqrt(std::max(0.0, sum));
}

EarlierAdapter::EarlierAdapter(const std::string& directory) : where_(directory) {
  io::AdapterFiles files = io::read_adapter(directory);
  config_ = std::move(files.config);
  molt_ = molt_file(directory);
  tensors_ = std::move(files.tensors);
  read_options();
}

EarlierAdapter::EarlierAdapter(std::string where, Json config, Json molt,
                               std::vector<std::pair<std::string, Tensor>> tensors)
    : where_(std::move(where)), config_(std::move(config)), molt_(std::move(molt)), tensors_(std::move(tensors)) {
  read_options();
}

void EarlierAdapter::read_options() {
  const std::string type = text_in(config_, "peft_type", where_, "nothing");
  slora_ = type == kSlora;
  if (!slora_ && type != Lora::kPeftType)
    usage_error(where_, ": its peft_type is ", type, "; slora goes on from LORA and ", kSlora, " alone");
  try {
    if (slora_) {
      const Json& own = molt_.at("methods").at(0);
      r_ = own.at("r").get<double>();
      alpha_ = own.at("lora_alpha").get<double>();
    } else {
      const Json options = Lora::from_peft(config_, where_).at(0).options;
      if (is_set(options, "use_dora")) usage_error(where_, ": is DoRA, whose change is no low-rank direction");
      if (is_set(options, "init_lora_weights"))
        usage_error(where_, ": its init_lora_weights is ", options["init_lora_weights"].dump(),
                    ": its pairs stand for a change of another base");
      alpha_ = options.value("lora_alpha", 8.0);
      rslora_ = options.value("use_rslora", false);
    }
  } catch (const Json::exception&) {
    usage_error(where_, ": its config lacks r or lora_alpha, or they are no numbers");
  }
  if (!(std::isfinite(alpha_) && r_ > 0)) usage_error(where_, ": its r or lora_alpha is out of range");
  for (const auto& [key, tensor] : tensors_) {
    if (!io::all_finite(tensor)) usage_error(where_, ": tensor ", key, " holds values that are not finite");
  }
}

double EarlierAdapter::scale_at(const std::string& path, int64_t rank) const {
  std::map<std::string, double> alphas;
  try {
    if (config_.contains("alpha_pattern") && config_["alpha_pattern"].is_object())
      alphas = config_["alpha_pattern"].get<std::map<std::string, double>>();
  } catch (const Json::exception&) {
    usage_error(where_, ": alpha_pattern holds what is no number");
  }
  const double alpha = patterned(alphas, path, alpha_, "alpha_pattern"), R = static_cast<double>(rank);
  return alpha / (rslora_ ? std::sqrt(R) : R);
}

Tensor EarlierAdapter::tensor(const std::string& key, const nn::Target& target) {
  const auto at = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.first == key; });
  if (at == tensors_.end())
    usage_error(where_, ": changes nothing at ", target.label(), " (no ", key,
                "); target_modules must be those of the earlier adapters");
  if (at->second.rank() != 2 && key.find("lora_") != std::string::npos && key.find("slora_") == std::string::npos)
    usage_error(where_, ": ", key, " is ", shape_str(at->second.shape()), ", expected a matrix");
  keys_.insert(key);
  return at->second;
}

std::vector<EarlierDirection> EarlierAdapter::at(const nn::Target& target) {
  return slora_ ? slora_at(target) : lora_at(target);
}

std::vector<EarlierDirection> EarlierAdapter::lora_at(const nn::Target& target) {
  const std::string key_A = io::peft_key(target.site->path, "lora_A.weight"),
                    key_B = io::peft_key(target.site->path, "lora_B.weight");
  const Tensor A = tensor(key_A, target).to(Dtype::kF64), B = tensor(key_B, target).to(Dtype::kF64);
  const Shape& W = target.site->shape;
  if (A.cols() != W[1] || B.rows() != W[0] || A.rows() != B.cols())
    usage_error(where_, ": at ", target.site->path, " A is ", shape_str(A.shape()), " and B ", shape_str(B.shape()),
                ", the model's weight ", shape_str(W), "; it is of another base");
  const auto [a, b] = without_idle(A, B.row_range(target.begin(), target.size()).clone());
  if (a.rows() == 0) usage_error(where_, ": changes nothing at ", target.label(), " (B is zero there)");
  for (int64_t o = 0; o < target.size(); ++o) rows_.insert({key_B, target.begin() + o});
  return {direction(a, b, scale_at(target.site->path, A.rows()))};
}

std::vector<EarlierDirection> EarlierAdapter::slora_at(const nn::Target& target) {
  const std::string module = target.label();
  const auto key = [&](const char* suffix) { return io::peft_key(module, suffix); };
  const auto has = [&](const std::string& name) {
    return std::any_of(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.first == name; });
  };
  const Tensor A = tensor(key("lora_A.weight"), target), B = tensor(key("lora_B.weight"), target);
  const auto check = [&](const Tensor& a, const Tensor& b) {
    if (a.rank() != 2 || b.rank() != 2 || a.cols() != target.site->shape[1] || b.rows() != target.size() ||
        a.rows() != b.cols())
      usage_error(where_, ": at ", module, " A is ", shape_str(a.shape()), " and B ", shape_str(b.shape()),
                  ", which do not fit the model's ", target.size(), " × ", target.site->shape[1],
                  "; it is of another base");
  };
  check(A, B);
  std::vector<EarlierDirection> out;
  if (has(key("slora_ranks"))) {
    const Tensor ranks = tensor(key("slora_ranks"), target), magnitudes = tensor(key("slora_magnitude"), target),
                 all_A = tensor(key("slora_A"), target), all_B = tensor(key("slora_B"), target);
    check(all_A, all_B);
    if (ranks.dtype() != Dtype::kI64 || magnitudes.numel() != ranks.numel())
      usage_error(where_, ": at ", module, " slora_ranks and slora_magnitude do not fit each other");
    int64_t first = 0;
    const std::vector<double> lengths = magnitudes.values();
    for (int64_t i = 0; i < ranks.numel(); ++i) {
      const int64_t r = ranks.data<int64_t>()[i];
      if (r < 1 || r > all_A.rows() - first) usage_error(where_, ": ", key("slora_ranks"), " does not fit slora_A");
      EarlierDirection d =
          direction(all_A.row_range(first, r).to(Dtype::kF64), all_B.col_range(first, r).to(Dtype::kF64), 1);
      d.magnitude *= lengths[static_cast<size_t>(i)];
      out.push_back(std::move(d));
      first += r;
    }
  }
  const double scale = alpha_ / r_;
  const auto [a, b] = without_idle(A.to(Dtype::kF64), B.to(Dtype::kF64));
  if (a.rows() > 0) out.push_back(direction(a, b, scale));
  if (out.empty()) usage_error(where_, ": changes nothing at ", module, " (B is zero there)");
  return out;
}

void EarlierAdapter::require_all_taken() const {
  const auto left = [&](const std::string& what) {
    usage_error(where_, ": changes ", what,
                " too, which target_modules leaves out; name the earlier adapters' targets");
  };
  for (const auto& [key, tensor] : tensors_) {
    if (!keys_.count(key)) left(key);
    if (slora_ || key.find(".lora_B.") == std::string::npos) continue;
    for (int64_t o = 0; o < tensor.rows(); ++o) {
      if (!rows_.count({key, o}) && !is_zero(tensor.row_range(o, 1))) left(str("row ", o, " of ", key));
    }
  }
}

}  // namespace molt::peft
