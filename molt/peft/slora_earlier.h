// What S-LoRA takes over from adapters of earlier tasks: their low-rank changes at a target, as directions of length 1
// and the lengths they had. LoRA adapters in PEFT's form, whoever wrote them, and S-LoRA's own.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "molt/base/json.h"
#include "molt/nn/site.h"
#include "molt/tensor/tensor.h"

namespace molt::peft {

/// B A of Frobenius norm 1, in f64, and how long it was.
struct EarlierDirection {
  Tensor A, B;  ///< (R, I), (O, R)
  double magnitude = 0;
};

class EarlierAdapter {
 public:
  /// Throws UsageError for a directory that is no adapter, and for one that is neither LoRA nor S-LoRA alone.
  explicit EarlierAdapter(const std::string& directory);
  /// The same from memory; `where` is how messages name it, `molt` is molt.json or null.
  EarlierAdapter(std::string where, Json config, Json molt, std::vector<std::pair<std::string, Tensor>> tensors);

  /// Its directions at a target, oldest first: LoRA's one, all of S-LoRA's. Throws UsageError where it has none there,
  /// or of another shape.
  std::vector<EarlierDirection> at(const nn::Target& target);
  /// After at() was asked for every target of the new training: throws UsageError naming what else the adapter changes.
  void require_all_taken() const;

 private:
  void read_options();
  double scale_at(const std::string& path, int64_t rank) const;
  Tensor tensor(const std::string& key, const nn::Target& target);
  std::vector<EarlierDirection> lora_at(const nn::Target& target);
  std::vector<EarlierDirection> slora_at(const nn::Target& target);

  std::string where_;
  Json config_, molt_;
  std::vector<std::pair<std::string, Tensor>> tensors_;
  bool slora_ = false, rslora_ = false;
  double r_ = 1, alpha_ = 1;
  std::set<std::pair<std::string, int64_t>> rows_;  // of whole-site Bs that were taken
  std::set<std::string> keys_;                      // that were taken
};

/// ‖B A‖ in the Frobenius norm, without forming the product.
double product_norm(const Tensor& A, const Tensor& B);

}  // namespace molt::peft
