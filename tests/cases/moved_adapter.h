// Methods on a base, moved away from where they start without training: adapters for tests of their files and of what
// is made of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/adapter.h"
#include "molt/app/methods.h"
#include "molt/models/load.h"

namespace molt::testing {

struct MovedAdapter {
  /// The methods of a recipe's YAML on an opened base, whose weights are loaded here. Value i of each trainable moves
  /// by far · ((factor · i + seed - 1) mod 7 - 3), in the last phase.
  MovedAdapter(models::LoadedModel opened, const std::string& yaml, float far, uint64_t seed = 1, int64_t factor = 1)
      : base(std::move(opened)),
        methods(app::make_methods(app::read_methods(app::YamlNode::parse(yaml, "test")), seed, Dtype::kF32)) {
    for (const auto& m : methods) m->declare(base.model->sites(), base.model->parameters());
    models::load_weights(base);
    for (const auto& m : methods) {
      m->attach(base.model->sites());
      for (int phase = 1; phase < static_cast<int>(m->phases().size()); ++phase) m->begin_phase(phase);
      m->bind(edits);
    }
    for (const auto& [site, edit] : edits.all())
      for (const nn::Trainable& t : edit->trainables()) {
        float* values = t.var.value().data<float>();
        for (int64_t i = 0; i < t.var.value().numel(); ++i)
          values[i] += far * static_cast<float>((i * factor + static_cast<int64_t>(seed) - 1) % 7 - 3);
      }
    for (const auto& m : methods) m->after_step();
  }
  /// Writes it to `directory`, as made for `checkpoint`.
  void save(const std::string& directory, const std::string& checkpoint) const {
    std::vector<nn::Method*> list;
    for (const auto& m : methods) list.push_back(m.get());
    app::save_adapter(directory, list, base, checkpoint);
  }

  models::LoadedModel base;
  std::vector<std::unique_ptr<nn::Method>> methods;
  nn::EditSet edits;
};

}  // namespace molt::testing
