// A model's config.json (0) or the index of its shards (1), beside weights that are sound.
#include "molt/models/load.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(model_config) {
  using namespace molt;
  static const fuzz::Directory single, sharded;
  static const bool prepared = [] {
    const std::string from = "tests/golden/mamba/";
    single.copy(from + "tied_small/checkpoint/model.safetensors", "model.safetensors");
    for (const auto& entry : std::filesystem::directory_iterator(MOLT_SOURCE_DIR "/" + from + "sharded/checkpoint"))
      sharded.copy(from + "sharded/checkpoint/" + entry.path().filename().string(), entry.path().filename().string());
    return true;
  }();
  (void)prepared;
  const bool index = fuzz::take_choice(bytes, 2) == 1;
  const fuzz::Directory& directory = index ? sharded : single;
  directory.write(index ? "model.safetensors.index.json" : "config.json", bytes);
  const models::LoadedModel model = models::open_model(directory.path(), {.base = Dtype::kF32, .compute = Dtype::kF32});
  models::weight_problems(model);
}
