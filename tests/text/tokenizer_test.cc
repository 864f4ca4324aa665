// Loading, encoding and decoding: against llama.cpp's vectors for GPT-NeoX and GPT-2 where they are at hand, and on
// small tokenizers written here; every kind of broken file is refused with a line that says what is wrong.
#include "molt/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <sstream>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/text/byte_alphabet.h"
#include "tests/text/shared.h"

namespace molt::text {
namespace {

using Ids = std::vector<int32_t>;

/// A byte-level BPE over all bytes with the merges h+e, l+l, he+ll, hell+o, space+hello and one special token.
Json small_tokenizer() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    vocab[spell_bytes({&c, 1})] = byte;
  }
  int id = 256;
  Json merges = Json::array();
  const std::string g = spell_bytes(" ");
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {g, "hello"}}) {
    vocab[left + right] = id++;
    merges.push_back(left + " " + right);
  }
  return {{"version", "1.0"},
          {"added_tokens", Json::array({{{"id", 261}, {"content", "<|endoftext|>"}, {"special", true}}})},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

Tokenizer parse(const Json& json) { return Tokenizer::parse(json.dump(), "test.json"); }

/// The message of the UsageError that parsing raises.
std::string refusal(const Json& json) {
  try {
    parse(json);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "accepted";
}

void expect_vectors(const std::string& name, const std::string& tokenizer) {
  const std::string data = shared_data();
  if (data.empty()) GTEST_SKIP() << "no shared data";
  const Tokenizer t = Tokenizer::load(data + "tokenizers/" + tokenizer);
  const std::string input = read_file(data + "tokenizers/ggml-vocab/" + name + ".gguf.inp");
  std::istringstream output(read_file(data + "tokenizers/ggml-vocab/" + name + ".gguf.out"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  size_t cases = 0;
  std::string line;
  for (size_t at = 0; at <= input.size() && std::getline(output, line); ++cases) {
    const size_t end = std::min(input.find(separator, at), input.size());
    const std::string text = input.substr(at, end - at);
    at = end + separator.size();
    std::istringstream numbers(line);
    const Ids expected{std::istream_iterator<int32_t>(numbers), {}};
    EXPECT_EQ(t.encode(text), expected) << Json(text);
    EXPECT_EQ(t.decode(expected), text);
  }
  EXPECT_EQ(cases, 46u);
}

TEST(Tokenizer, EqualsLlamaCppOnGptNeox) { expect_vectors("ggml-vocab-mpt", "gpt-neox-20b"); }
TEST(Tokenizer, EqualsLlamaCppOnGpt2) { expect_vectors("ggml-vocab-gpt-2", "gpt2"); }

TEST(Tokenizer, VocabAndMergesGiveTheSameIdsAsTokenizerJson) {
  const std::string data = shared_data();
  if (data.empty()) GTEST_SKIP() << "no shared data";
  const TempDir dir;
  for (const char* file : {"vocab.json", "merges.txt"})
    std::filesystem::copy_file(data + "tokenizers/gpt2/" + file, dir / file);
  const Tokenizer pair = Tokenizer::load(dir.path()), json = Tokenizer::load(data + "tokenizers/gpt2/tokenizer.json");
  const std::string text = read_file(data + "text/tinyshakespeare/input.txt") + "<|endoftext|>";
  EXPECT_EQ(pair.encode(text), json.encode(text));
  EXPECT_EQ(pair.eos_id(), 50256);
  EXPECT_EQ(pair.vocab_size(), 50257);
}

TEST(Tokenizer, MergesInTheOrderLearned) {
  const Tokenizer t = parse(small_tokenizer());
  EXPECT_EQ(t.encode("hello hello"), (Ids{259, 260}));
  EXPECT_EQ(t.encode("hellll"), (Ids{258, 257}));
  EXPECT_EQ(t.encode("lll"), (Ids{257, 'l'}));
  EXPECT_EQ(t.encode(""), Ids{});
}

TEST(Tokenizer, LongWordsMergeAsShortOnesDo) {
  const Tokenizer t = parse(small_tokenizer());
  std::string word;
  Ids expected;
  for (int i = 0; i < 5000; ++i) word += "hellohell", expected.insert(expected.end(), {259, 258});
  EXPECT_EQ(t.encode(word), expected);
  EXPECT_EQ(t.encode(std::string(1001, 'l')), [] {
    Ids ids(500, 257);
    ids.push_back('l');
    return ids;
  }());
}

TEST(Tokenizer, SpecialTokensAreFoundOrKeptAsText) {
  const Tokenizer t = parse(small_tokenizer());
  EXPECT_EQ(t.encode("hello<|endoftext|>hello"), (Ids{259, 261, 259}));
  const Ids as_text = t.encode("<|endoftext|>", false);
  EXPECT_EQ(as_text.size(), 13u);
  EXPECT_EQ(t.decode(as_text), "<|endoftext|>");
  EXPECT_EQ(t.decode({259, 261}), "hello<|endoftext|>");
  EXPECT_EQ(t.decode({259, 261}, true), "hello");
  EXPECT_EQ(t.eos_id(), 261);
  EXPECT_EQ(t.vocab_size(), 262);
  EXPECT_EQ(t.token_to_id("hello"), 259);
  EXPECT_EQ(t.token_to_id("nothing"), std::nullopt);
  EXPECT_EQ(t.id_to_token(260), spell_bytes(" hello"));
  EXPECT_EQ(t.id_to_token(262), std::nullopt);
}

TEST(Tokenizer, AddedTokensAreDecodedAsWritten) {
  // \u00E9 is also how the byte alphabet spells the byte 0xE9, which is what Hugging Face's decoder makes of it.
  Json json = small_tokenizer();
  json["added_tokens"].push_back({{"id", 262}, {"content", "caf\u00E9"}});
  EXPECT_EQ(parse(json).encode("hellocafe\u0301"), (Ids{259, 262}));
  EXPECT_EQ(parse(json).decode({259, 262}), "hellocaf\u00E9");
}

TEST(Tokenizer, NormalisesToFormC) {
  const Tokenizer t = parse(small_tokenizer());
  EXPECT_EQ(t.decode(t.encode("e\u0301 \u1100\u1161\u11A8")), "\u00E9 \uAC01");
  EXPECT_EQ(t.decode(t.encode("\uAC00\u11A7")), "\uAC00\u11A7");  // U+11A7 is no trailing consonant
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndIdsThatAreNoTokens) {
  const Tokenizer t = parse(small_tokenizer());
  EXPECT_THROW(t.encode("abc\xFF"), UsageError);
  EXPECT_THROW(t.encode("\xE2\x82"), UsageError);
  EXPECT_THROW(t.decode({262}), UsageError);
  EXPECT_THROW(t.decode({-1}), UsageError);
}

TEST(Tokenizer, DecodesBrokenCharactersAsReplacement) {
  const Tokenizer t = parse(small_tokenizer());
  EXPECT_EQ(t.decode({0xE2, 0x82, 'a', 0x80}), "\uFFFDa\uFFFD");
}

TEST(Tokenizer, AMissingByteIsAnErrorOrTheUnknownToken) {
  Json json = small_tokenizer();
  json["model"]["vocab"].erase("z");
  EXPECT_THROW(parse(json).encode("hello z"), UsageError);
  json["model"]["unk_token"] = "h";
  EXPECT_EQ(parse(json).encode("hellozz"), (Ids{259, 'h', 'h'}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(parse(json).encode("hellozz"), (Ids{259, 'h'}));
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  Json json = small_tokenizer();
  json["model"]["vocab"]["other"] = 300;
  EXPECT_EQ(parse(json).encode("other").size(), 4u);  // o t he r
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(parse(json).encode("other"), Ids{300});
  EXPECT_EQ(parse(json).vocab_size(), 301);
  EXPECT_EQ(parse(json).id_to_token(280), std::nullopt);
}

TEST(Tokenizer, ReportsWhatThePostProcessorAdds) {
  Json json = small_tokenizer();
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", Json::array({{{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}},
                                                    {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
                            {"special_tokens", {{"<|endoftext|>", {{"ids", {261}}}}}}};
  const Tokenizer t = parse(json);
  EXPECT_EQ(t.prefix_ids(), Ids{261});
  EXPECT_EQ(t.suffix_ids(), Ids{});
  EXPECT_EQ(t.encode("hello"), Ids{259});
}

TEST(Tokenizer, TakesRolesFromTheFilesBeside) {
  const TempDir dir;
  Json json = small_tokenizer();
  write_file_atomic(dir / "tokenizer.json", json.dump());
  write_file_atomic(dir / "config.json", R"({"eos_token_id": [5, 6], "bos_token_id": 7, "pad_token_id": 9999})");
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 5);
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), 7);
  EXPECT_EQ(Tokenizer::load(dir / "tokenizer.json").pad_id(), std::nullopt);
  write_file_atomic(dir / "special_tokens_map.json", R"({"eos_token": {"content": "<|endoftext|>"}})");
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 261);
  write_file_atomic(dir / "tokenizer_config.json", R"({"eos_token": "hello", "pad_token": null})");
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 259);
  write_file_atomic(dir / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THROW(Tokenizer::load(dir.path()), UsageError);
}

TEST(Tokenizer, RefusesOtherKindsByName) {
  for (const char* type : {"Unigram", "WordPiece", "WordLevel"}) {
    Json json = small_tokenizer();
    json["model"] = {{"type", type}};
    EXPECT_NE(refusal(json).find(type), std::string::npos) << refusal(json);
  }
  Json json = small_tokenizer();
  json["model"]["byte_fallback"] = true;
  EXPECT_NE(refusal(json).find("SentencePiece"), std::string::npos);
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    json = small_tokenizer();
    json[part] = {{"type", "Metaspace"}};
    EXPECT_NE(refusal(json).find(str(part, " is of type Metaspace")), std::string::npos) << refusal(json);
  }
  const TempDir dir;
  EXPECT_THROW(Tokenizer::load(dir.path()), UsageError);
  write_file_atomic(dir / "tokenizer.model", "x");
  try {
    Tokenizer::load(dir.path());
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("SentencePiece"), std::string::npos);
  }
}

TEST(Tokenizer, RefusesMalformedFiles) {
  const auto with = [](const std::function<void(Json&)>& change) {
    Json json = small_tokenizer();
    change(json);
    return json;
  };
  const std::vector<Json> broken = {
      Json::array(),
      Json::object(),
      with([](Json& j) { j["model"] = "BPE"; }),
      with([](Json& j) { j["model"]["vocab"] = Json::array({1}); }),
      with([](Json& j) { j["model"]["vocab"]["hello"] = "259"; }),
      with([](Json& j) { j["model"]["vocab"]["hello"] = -1; }),
      with([](Json& j) { j["model"]["vocab"]["hello"] = 1e9; }),
      with([](Json& j) { j["model"]["vocab"]["hello"] = 4000000000u; }),
      with([](Json& j) { j["model"]["vocab"]["hello"] = 5; }),
      with([](Json& j) { j["model"]["vocab"].erase("hello"); }),
      with([](Json& j) { j["model"]["merges"] = "h e"; }),
      with([](Json& j) { j["model"]["merges"][0] = "he"; }),
      with([](Json& j) { j["model"]["merges"][0] = "h e l"; }),
      with([](Json& j) { j["model"]["merges"][0] = Json::array({"h"}); }),
      with([](Json& j) { j["model"]["merges"][0] = 3; }),
      with([](Json& j) { j["model"]["unk_token"] = "<unk>"; }),
      with([](Json& j) { j["model"]["dropout"] = 0.1; }),
      with([](Json& j) { j["model"]["fuse_unk"] = "yes"; }),
      with([](Json& j) { j["added_tokens"] = 3; }),
      with([](Json& j) { j["added_tokens"][0] = 3; }),
      with([](Json& j) { j["added_tokens"][0].erase("id"); }),
      with([](Json& j) { j["added_tokens"][0].erase("content"); }),
      with([](Json& j) { j["added_tokens"][0]["id"] = 5; }),
      with([](Json& j) { j["added_tokens"][0]["content"] = "hello"; }),
      with([](Json& j) { j["pre_tokenizer"] = nullptr; }),
      with([](Json& j) {
        j["pre_tokenizer"] = {{"type", "Sequence"}};
      }),
      with([](Json& j) { j["pre_tokenizer"]["type"] = 3; }),
      with([](Json& j) {
        j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
      }),
      with([](Json& j) {
        j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Odd"}};
      }),
      with([](Json& j) {
        j["post_processor"] = {{"type", "TemplateProcessing"}};
      }),
  };
  for (const Json& json : broken) {
    const std::string said = refusal(json);
    EXPECT_EQ(said.rfind("test.json", 0), 0u) << said << "\n" << json.dump().substr(0, 300);
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  EXPECT_THROW(Tokenizer::parse(small_tokenizer().dump().substr(0, 1000), "cut.json"), UsageError);
  EXPECT_THROW(Tokenizer::load("/nonexistent/tokenizer.json"), UsageError);
}

TEST(StreamDecoder, YieldsWholeCharactersOnly) {
  const Tokenizer t = parse(small_tokenizer());
  StreamDecoder stream(t, true);
  EXPECT_EQ(stream.push(259), "hello");
  EXPECT_EQ(stream.push(0xE2), "");
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push(0xAC), "\u20AC");
  EXPECT_EQ(stream.push(261), "");
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.push('a'), "\uFFFDa");
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamDecoder, EqualsDecodeOnAnyBytes) {
  const Tokenizer t = parse(small_tokenizer());
  const int pool[] = {0x00, 0x41, 0x80, 0xA0, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xFF, 0x82};
  uint32_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    Ids ids;
    for (int i = 0; i < 12; ++i) ids.push_back(pool[((state = state * 1664525u + 1013904223u) >> 16) % 14]);
    std::string streamed;
    StreamDecoder stream(t);
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    ASSERT_EQ(streamed, t.decode(ids));
  }
}

}  // namespace
}  // namespace molt::text
