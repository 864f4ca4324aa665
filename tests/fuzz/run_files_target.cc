// The files of a run: run.json (0), metrics.jsonl (1), a checkpoint's state.json (2) or tensors (3), recipe.yaml (4),
// result.json (5); the others are sound.
#include "molt/app/inspect.h"
#include "molt/train/checkpoint.h"
#include "molt/train/metrics_log.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(run_files) {
  using namespace molt;
  static const std::pair<const char*, const char*> kFiles[] = {
      {"run.json", R"({"format": 1, "molt": "0.1.0", "host": "h", "began": "2026-01-01T00:00:00Z"})"},
      {"metrics.jsonl", "{\"type\":\"note\",\"step\":1,\"text\":\"x\"}\n"},
      {"checkpoints/step-000000001/state.json", R"({"format": 1, "step": 1})"},
      {"checkpoints/step-000000001/tensors.safetensors", std::string_view("\2\0\0\0\0\0\0\0{}", 10).data()},
      {"recipe.yaml", "{}"},
      {"result.json", "{}"}};
  static const fuzz::Directory directory;
  static int changed = -1;
  const auto restore = [](int i) {
    directory.write(kFiles[i].first, i == 3 ? std::string_view(kFiles[i].second, 10) : kFiles[i].second);
  };
  if (changed < 0) {
    for (int i = 0; i < 6; ++i) restore(i);
  } else {
    restore(changed);
  }
  changed = fuzz::take_choice(bytes, 6);
  directory.write(kFiles[changed].first, bytes);
  const auto guarded = [](const std::function<void()>& read) {
    try {
      read();
    } catch (const UsageError&) {
    }
  };
  guarded([] { app::inspect_run(directory.path()); });
  guarded([] { train::read_metrics(directory.path() + "/metrics.jsonl"); });
  guarded([] {
    const auto run = train::RunDirectory::open(directory.path());
    train::read_last_checkpoint(run);
  });
}
