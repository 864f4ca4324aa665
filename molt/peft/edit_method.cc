#include "molt/peft/edit_method.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/io/adapter.h"

namespace molt::peft {

std::vector<std::pair<std::string, Tensor>> TargetEdit::tensors() const {
  std::vector<std::pair<std::string, Tensor>> out;
  for (const nn::Trainable& t : trainables())
    out.emplace_back(t.name.substr(target_.label().size() + 1), t.var.value());
  return out;
}

std::vector<std::pair<std::string, Tensor>> edits_state(const std::vector<std::shared_ptr<TargetEdit>>& edits) {
  std::vector<std::pair<std::string, Tensor>> out;
  for (const auto& edit : edits) {
    for (const auto& [suffix, tensor] : edit->tensors()) out.emplace_back(io::peft_key(edit->module(), suffix), tensor);
  }
  return out;
}

Tensor stored_tensor(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& key,
                     const Shape& shape) {
  const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == key; });
  if (at == tensors.end()) usage_error("adapter: tensor ", key, " is missing");
  if (at->second.shape() != shape)
    usage_error("adapter: ", key, " is ", shape_str(at->second.shape()), ", its config asks for ", shape_str(shape));
  return at->second;
}

void load_edits(const std::vector<std::shared_ptr<TargetEdit>>& edits,
                const std::vector<std::pair<std::string, Tensor>>& tensors) {
  for (const auto& edit : edits) {
    for (auto& [suffix, tensor] : edit->tensors()) {
      Tensor to = tensor;
      to.copy_from(stored_tensor(tensors, io::peft_key(edit->module(), suffix), to.shape()));
    }
    edit->refresh();
  }
}

void restore_edits(const std::vector<std::shared_ptr<TargetEdit>>& edits,
                   const std::vector<std::pair<std::string, Tensor>>& tensors) {
  for (const auto& edit : edits) {
    for (auto& [suffix, tensor] : edit->tensors()) {
      const std::string key = io::peft_key(edit->module(), suffix);
      const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == key; });
      Tensor to = tensor;
      if (at != tensors.end()) to.copy_from(at->second);
    }
    edit->refresh();
  }
}

Json whole_modules(const std::vector<std::shared_ptr<TargetEdit>>& edits, const char* method) {
  Json modules = Json::array();
  for (const auto& edit : edits) {
    if (edit->target().slice)
      usage_error(method, ": ", edit->target().label(), " is a slice, which PEFT's form of ", method, " cannot name");
    modules.push_back(edit->target().site->path);
  }
  return modules;
}

}  // namespace molt::peft
