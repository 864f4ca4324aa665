// molt tokenizer
#include <filesystem>
#include <memory>

#include "molt/base/error.h"
#include "molt/cli/verbs.h"
#include "molt/text/bpe_trainer.h"

namespace molt::cli {

void add_tokenizer(CLI::App& app) {
  struct Options {
    std::vector<std::string> files;
    std::string out;
    int32_t vocabulary = 4096;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("tokenizer", "Train a byte-level BPE tokenizer on text files");
  verb->add_option("files", o->files, "text files (UTF-8)")->required();
  verb->add_option("--out", o->out, "directory for tokenizer.json")->required();
  verb->add_option("--vocabulary", o->vocabulary, "tokens, bytes and <|endoftext|> included")->capture_default_str();
  verb->callback([o] {
    constexpr int32_t kLeast = 257;  // the bytes and <|endoftext|>
    if (o->vocabulary < kLeast) usage_error("--vocabulary: expected at least ", kLeast, ", found ", o->vocabulary);
    const std::string place = o->out + "/tokenizer.json";
    std::error_code none;
    if (std::filesystem::exists(place, none))
      usage_error(place, ": is there already; choose another directory, nothing is overwritten");
    const text::TrainedBpe trained = text::train_bpe(o->files, {.vocab_size = o->vocabulary});
    if (trained.tokens.size() == static_cast<size_t>(kLeast) && o->vocabulary > kLeast)
      usage_error(o->files[0], ": has no two characters beside each other twice; there is nothing to learn from");
    trained.write(o->out);
    std::printf("%zu tokens written to %s\n", trained.tokens.size(), o->out.c_str());
  });
}

}  // namespace molt::cli
