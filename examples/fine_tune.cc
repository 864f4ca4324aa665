// Molt as a library: trains a LoRA on the bundled base, then asks the result something. In the repository's root:
//   build/examples/fine_tune DIRECTORY [key=value ...]
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "molt/app/continuation.h"
#include "molt/app/questions.h"
#include "molt/app/train_run.h"
#include "molt/app/workspace.h"
#include "molt/base/error.h"

namespace {

constexpr const char* kRecipe = R"(
model: examples/base
data: {train: examples/commands/train.jsonl, validation: examples/commands/validation.jsonl, validation_limit: 50}
method: {lora: {r: 8, lora_alpha: 16, target_modules: [in_proj, "x_proj:B", out_proj]}}
learning_rate: 1e-2
tokens_per_batch: 512
num_train_epochs: 1
)";

void say(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void fine_tune_and_ask(const std::string& directory, const std::vector<std::string>& overrides) {
  using namespace molt;
  app::YamlNode yaml = app::YamlNode::parse(kRecipe, "recipe");
  yaml.apply("output_dir=" + directory);
  for (const std::string& assignment : overrides) yaml.apply(assignment);
  const app::Recipe recipe = app::Recipe::from(yaml, "fine_tune");
  const app::TrainRunResult run = app::run_training(recipe, {.sink = say});

  app::Workspace workspace({.model = recipe.model, .adapter = run.product});
  const data::Example question = app::plain_question("Play folk songs in the cellar.\n=> ", "question");
  app::ContinueOptions options;
  options.generate.max_new_tokens = 20;
  options.on_text = [](size_t, std::string_view text) { say(text); };
  app::continue_prompts(workspace.view(), workspace.tokenizer(), {app::question_ids(question, workspace.encoder())},
                        options);
  say("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: fine_tune DIRECTORY [key=value ...]\n");
    return 2;
  }
  try {
    fine_tune_and_ask(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {  // molt/base/error.h: whose fault it was
    std::fprintf(stderr, "fine_tune: %s\n", error.what());
    return 1;
  }
}
