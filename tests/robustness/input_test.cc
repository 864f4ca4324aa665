// Hostile and odd files through the whole program. What each reader refuses in detail is tested beside the reader.
#include "tests/robustness/place.h"

namespace molt::test {
namespace {

class Input : public ::testing::Test {
 protected:
  const Place& place = Place::the();
  void TearDown() override { place.shell("rm -rf in new m"); }
  std::string header(const std::string& json) const {
    std::string bytes(8, '\0');
    for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 255);
    return bytes + json;
  }
  /// Puts a file in the place of a copied model's weights and asks for text.
  void refused_weights(const std::string& file, const std::string& bytes, const std::vector<std::string>& says) {
    SCOPED_TRACE(says.empty() ? file : says[0]);
    place.shell("rm -rf m && cp -r base m && rm m/model.safetensors");
    place.write("m/" + file, "");
    std::ofstream(place / ("m/" + file), std::ios::binary) << bytes;
    expect_line(place.molt("generate --model @/m --prompt one"), 2, says);
  }
};

TEST_F(Input, SafetensorsThatLie) {
  const std::string file = "model.safetensors";
  const std::string sound = read_file(place / "base/model.safetensors");
  refused_weights(file, "", {file});
  refused_weights(file, sound.substr(0, 5), {file});
  refused_weights(file, sound.substr(0, 100), {file, "truncated"});
  refused_weights(file, sound.substr(0, sound.size() - 1), {file, "truncated"});
  refused_weights(file, std::string(8, '\xff') + "{}", {file, "header"});
  refused_weights(file, sound + "x", {file, "belong to no tensor"});
  refused_weights(file,
                  header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}") +
                      "123456",
                  {file, "overlap"});
  refused_weights(file, header("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}") + "1234",
                  {file, "unknown dtype"});
  refused_weights(
      file, header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,4]}}") + "1234",
      {file, "too large"});
  refused_weights(file, header("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}") + "1234",
                  {file, "non-negative"});
  refused_weights(file, header(std::string(100000, '[')), {file});
  // Sound as a file, not as this model: whole numbers in a weight's place.
  std::string integers = sound;
  for (size_t at; (at = integers.find("\"F32\"")) != std::string::npos;) integers.replace(at, 5, "\"I32\"");
  refused_weights(file, integers, {"I32"});
}

TEST_F(Input, PicklesThatWantToRun) {
  const std::string bad = MOLT_SOURCE_DIR "/tests/golden/torch_bin/bad";
  int count = 0;
  for (const auto& entry : fs::directory_iterator(bad)) {
    refused_weights("pytorch_model.bin", read_file(entry.path().string()), {"pytorch_model.bin"});
    ++count;
  }
  EXPECT_GE(count, 5);
}

TEST_F(Input, ConfigsAndTokenizersOfEveryWrongKind) {
  const std::vector<std::string> wrong = {"",
                                          "{",
                                          "null",
                                          "[]",
                                          "3",
                                          "\"x\"",
                                          "{\"model_type\": 3}",
                                          std::string(100000, '['),
                                          "\xff\xfe{",
                                          std::string("{\0}", 3),
                                          "{\"a\": 1e999}"};
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    for (const std::string& bytes : wrong) {
      SCOPED_TRACE(str(name, ": ", bytes.substr(0, 20)));
      place.shell("rm -rf m && cp -r base m");
      std::ofstream(place / ("m/" + std::string(name)), std::ios::binary) << bytes;
      const Ran ran = place.molt("generate --model @/m --prompt one --chat --max-new-tokens 1 --quiet");
      if (ran.code == 0) {
        EXPECT_STREQ(name, "tokenizer_config.json") << "read without a word";
      } else {
        expect_line(ran, 2, {name});
      }
    }
  }
  for (const char* change :
       {"\"num_hidden_layers\": 2147483648", "\"num_hidden_layers\": 1000000", "\"hidden_size\": 2147483647",
        "\"state_size\": 0", "\"layer_norm_epsilon\": -1", "\"vocab_size\": 2147483648"}) {
    SCOPED_TRACE(change);
    const std::string key = std::string(change).substr(0, std::string(change).find(':'));
    place.shell(str("rm -rf m && cp -r base m && sed -i 's/", key, ": [^,]*/", change, "/' m/config.json"));
    expect_line(place.molt("generate --model @/m --prompt one"), 2, {"/m"});
  }
}

TEST_F(Input, RecipesOfEveryWrongKind) {
  const std::string sound = read_file(place / "good.yaml");
  const std::vector<std::string> wrong = {"",
                                          "\n\n",
                                          "3",
                                          "- 1",
                                          "a: [",
                                          "model: {a: b}",
                                          "model: [a]\nmethod: lora",
                                          std::string(20000, '['),
                                          std::string(20000, '{'),
                                          "\xff\xfe",
                                          std::string("a\0b", 3),
                                          "&a [*a]",
                                          "a: &x [*x, *x]",
                                          "? [1]\n: 2",
                                          "!!binary x",
                                          "method: 3\nmodel: x",
                                          sound + sound,
                                          "model: @/base\nmethod: [[lora]]\ndata: x"};
  for (const std::string& bytes : wrong) {
    SCOPED_TRACE(bytes.substr(0, 40));
    place.write("in", bytes);
    expect_line(place.molt("train @/in output_dir=@/new"), 2, {});
    EXPECT_FALSE(fs::exists(place / "new"));
  }
}

TEST_F(Input, NumbersOfEveryWrongSize) {
  const char* const refused[] = {"batch_size=-1",
                                 "tokens_per_batch=-5",
                                 "max_steps=-1",
                                 "num_train_epochs=-1 max_steps=0",
                                 "num_train_epochs=nan max_steps=0",
                                 "learning_rate=nan",
                                 "learning_rate=.inf",
                                 "weight_decay=-1",
                                 "adam_beta1=1",
                                 "max_grad_norm=-1",
                                 "gradient_accumulation_steps=0",
                                 "logging_steps=0",
                                 "save_total_limit=0",
                                 "method.lora.r=-1",
                                 "method.lora.r=99999999999",
                                 "method.lora.lora_alpha=.inf",
                                 "method.lora.lora_alpha=-8",
                                 "adam_epsilon=.nan",
                                 "threads=99999999999",
                                 "output_dir=$(printf 'x%.0s' $(seq 300))",
                                 "method.lora.lora_dropout=1.5",
                                 "data.validation_split=1",
                                 "data.validation_split=nan",
                                 "data.limit=0",
                                 "data.max_length=-1",
                                 "threads=-3",
                                 "max_steps=1e30",
                                 "max_steps=99999999999999999999",
                                 "data.seed=x",

                                 "warmup_steps=-1",
                                 "warmup_ratio=2",
                                 "num_train_epochs=.inf max_steps=0",
                                 "num_train_epochs=1e300 max_steps=0"};
  for (const char* overrides : refused) {
    SCOPED_TRACE(overrides);
    expect_line(place.molt(str("train @/good.yaml ", overrides)), 2, {});
    EXPECT_FALSE(fs::exists(place / "new"));
    place.shell("rm -rf new");
  }
  for (const char* allowed :
       {"tokens_per_batch=9223372036854775807", "batch_size=9223372036854775807", "logging_steps=9223372036854775807",
        "save_steps=9223372036854775807", "gradient_accumulation_steps=2"}) {
    SCOPED_TRACE(allowed);
    const Ran ran = place.molt(str("train @/good.yaml max_steps=1 ", allowed));
    EXPECT_TRUE(ran.code == 0 || ran.code == 2) << ran.err;
    place.shell("rm -rf new");
  }
}

TEST_F(Input, DataWithCrlfIsTheSameData) {
  place.shell("sed 's/$/\\r/' data.jsonl > in");
  place.works("train @/good.yaml data.train=@/in data.format=jsonl output_dir=@/new");
  EXPECT_EQ(read_file(place / "new/adapter/adapter_model.safetensors"),
            read_file(place / "run/adapter/adapter_model.safetensors"));
}

TEST_F(Input, DataThatIsNoText) {
  for (const char* format : {"jsonl", "csv", "tsv", "text"}) {
    for (const char* source :
         {"head -c 5000 base/model.safetensors > in", ": > in", "printf '\\n\\n  \\n' > in", "printf '\\000' > in",
          "printf '\\357\\273\\277' > in", "printf '\"' > in", "head -c 3000 /dev/urandom > in"}) {
      SCOPED_TRACE(str(format, ": ", source));
      place.shell(source);
      const Ran ran =
          place.molt(str("train @/good.yaml data.train=@/in data.validation_split=0 data.cache_dir=@/new/cache "
                         "data.format=",
                         format));
      // A lone quote is a text one can train on.
      if (std::string(format) == "text" && std::string(source).find("'\"'") != std::string::npos) continue;
      expect_line(ran, 2, {"/in"});
      place.shell("rm -rf new");
    }
  }
}

/// One line of so many MiB in each format; MOLT_TORTURE_KILLS (make torture) makes it 100.
TEST_F(Input, AVeryLongLine) {
  const int mib = std::getenv("MOLT_TORTURE_KILLS") ? 100 : 3;
  const auto make = [&](const std::string& before, const std::string& after) {
    place.shell(str("{ printf '%s' '", before, "'; head -c ", mib << 20,
                    " /dev/zero | tr '\\0' 'x' | sed 's/xxxxxxx/one two/g'; printf '%s\\n' '", after,
                    "'; } > in; cat data.jsonl >/dev/null"));
  };
  make("{\"prompt\": \"", "\", \"completion\": \" b\"}");
  expect_line(
      place.molt("train @/good.yaml data.train=@/in data.format=jsonl data.validation_split=0 data.max_length=64"), 2,
      {"in:1", "data.max_length"});
  make("prompt,completion\na,", "");
  place.works(
      "train @/good.yaml data.train=@/in data.format=csv data.validation_split=0 data.max_length=64 "
      "data.on_long=truncate max_steps=1");
  place.shell("rm -rf new");
  make("", "");
  place.works(
      "train @/good.yaml data.train=@/in data.format=text data.validation_split=0 data.cache_dir=@/new_cache "
      "data.segment_length=32 max_steps=1");
  place.shell("rm -rf new new_cache");
  // One word without an end: what a tokenizer cannot take apart.
  place.shell(str("head -c ", mib << 20, " /dev/zero | tr '\\0' 'x' > in"));
  place.works(
      "train @/good.yaml data.train=@/in data.format=text data.validation_split=0 data.cache_dir=@/new_cache "
      "data.segment_length=32 max_steps=1");
  place.shell("rm -rf new new_cache");
  make("model: ", "");
  expect_line(place.molt("train @/in output_dir=@/new"), 2, {});
}

}  // namespace
}  // namespace molt::test
