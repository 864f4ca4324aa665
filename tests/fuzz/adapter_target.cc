// An adapter's adapter_config.json, and after a line "---" its molt.json, attached to a small model.
#include "molt/app/adapter.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(adapter) {
  using namespace molt;
  static const fuzz::Directory directory;
  static const bool prepared = [] {
    directory.copy("tests/golden/mamba/tied_small/lora_honest/adapter/adapter_model.safetensors",
                   "adapter_model.safetensors");
    return true;
  }();
  (void)prepared;
  constexpr std::string_view kMark = "\n---\n";
  const size_t mark = bytes.find(kMark);
  directory.write("adapter_config.json", bytes.substr(0, mark));
  directory.remove("molt.json");
  if (mark != std::string_view::npos) directory.write("molt.json", bytes.substr(mark + kMark.size()));
  models::LoadedModel base = models::open_model(MOLT_SOURCE_DIR "/tests/golden/mamba/tied_small/checkpoint",
                                                {.base = Dtype::kF32, .compute = Dtype::kF32});
  app::LoadedAdapter adapter(directory.path(), base, Dtype::kF32);
  models::load_weights(base);
  adapter.finish();
}
