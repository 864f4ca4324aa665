// GGUF files: what is written is read back, byte layout as the format says; files of llama.cpp are read; wrong files
// are refused by name.
#include "molt/io/gguf.h"

#include <cstdlib>

#include "tests/io/fixtures.h"

namespace molt::io {
namespace {

using testing::le;
using testing::TemporaryDirectory;
using testing::usage_error_of;

std::string text(const std::string& s) { return le(s.size(), 8) + s; }
std::string u32(const std::string& key, uint64_t value) { return text(key) + le(4, 4) + le(value, 4); }
std::string tensor(const std::string& name, const std::vector<uint64_t>& dims, int type, uint64_t offset) {
  std::string out = text(name) + le(dims.size(), 4);
  for (const uint64_t d : dims) out += le(d, 8);
  return out + le(static_cast<uint64_t>(type), 4) + le(offset, 8);
}
/// A file put together by hand: header with these counts, its parts, padding to 32, data.
std::string gguf(uint64_t tensors, uint64_t values, const std::string& parts, const std::string& data,
                 int version = 3) {
  std::string out = "GGUF" + le(static_cast<uint64_t>(version), 4) + le(tensors, 8) + le(values, 8) + parts;
  out.resize((out.size() + 31) / 32 * 32, '\0');
  return out + data;
}

TEST(Gguf, ReadsWhatItWrote) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.gguf");
  const Tensor matrix = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const GgufMetadata metadata = {
      {"general.architecture", GgufValue::text("mamba")},
      {"a.u32", GgufValue::u32(4294967295)},
      {"a.f32", GgufValue::f32(0.5)},
      {"a.flag", GgufValue::flag(true)},
      {"a.i64", {GgufType::kI64, false, {-5}, {}, {}}},
      {"a.i8", {GgufType::kI8, false, {-7}, {}, {}}},
      {"a.f64", {GgufType::kF64, false, {}, {0.1}, {}}},
      {"a.words", GgufValue::list_of({"", "Ġthe", "naïve"})},
      {"a.kinds", GgufValue::list_of_i32({1, -1, 3})},
  };
  const NamedTensors tensors = {{"blk.0.ssm_in.weight", matrix},         {"b", matrix.to(Dtype::kBf16)},
                                {"view", matrix.col_range(1, 2)},        {"h", matrix.to(Dtype::kF16)},
                                {"v", Tensor::from<float>({7, 8}, {2})}, {"i", matrix.to(Dtype::kI32)}};
  write_gguf(path, metadata, tensors);
  const GgufFile file(path);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, t] : tensors) {
    EXPECT_EQ(file.tensor(name).shape(), t.shape()) << name;
    EXPECT_EQ(file.tensor(name).dtype(), t.dtype()) << name;
    EXPECT_EQ(file.tensor(name).values(), t.values()) << name;
  }
  ASSERT_EQ(file.metadata().size(), metadata.size());
  for (const auto& [key, value] : metadata) {
    const GgufValue& back = file.metadata().at(key);
    EXPECT_EQ(back.type, value.type) << key;
    EXPECT_EQ(back.list, value.list) << key;
    EXPECT_EQ(back.integers, value.integers) << key;
    EXPECT_EQ(back.numbers, value.numbers) << key;
    EXPECT_EQ(back.texts, value.texts) << key;
  }
  EXPECT_EQ(file.text("general.architecture"), "mamba");
  EXPECT_EQ(file.number("a.f32"), 0.5);
  EXPECT_HAS(usage_error_of([&] { file.text("a.f32"); }), "a.f32");
  EXPECT_HAS(usage_error_of([&] { file.number("nothing"); }), "nothing");
}

TEST(Gguf, LayoutIsTheFormats) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.gguf");
  write_gguf(path, {{"k", GgufValue::u32(7)}},
             {{"a", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3})}, {"b", Tensor::from<float>({9}, {1})}});
  const std::string data = testing::raw_bytes<float>({1, 2, 3, 4, 5, 6}) + std::string(8, '\0') +
                           testing::raw_bytes<float>({9}) + std::string(28, '\0');
  EXPECT_EQ(read_file(path), gguf(2, 1, u32("k", 7) + tensor("a", {3, 2}, 0, 0) + tensor("b", {1}, 0, 32), data));
}

TEST(Gguf, FilesOfLlamaCppAreRead) {
  const char* const shared = std::getenv("MOLT_SHARED");
  const std::string path = (shared ? shared : MOLT_SOURCE_DIR "/../shared") +
                           std::string("/data/tokenizers/ggml-vocab/ggml-vocab-gpt-neox.gguf");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const GgufFile file(path);
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "gpt2");
  EXPECT_GT(file.metadata().at("tokenizer.ggml.tokens").size(), 50000u);
}

TEST(Gguf, WrongFilesAreRefusedByName) {
  const TemporaryDirectory directory;
  const std::string four = testing::raw_bytes<float>({1, 2, 3, 4}), one = tensor("t", {4}, 0, 0);
  const auto refusal = [&](const std::string& bytes) {
    const std::string path = directory.write("x.gguf", bytes);
    const std::string message = usage_error_of([&] { GgufFile file(path); });
    EXPECT_HAS(message, path);
    return message;
  };
  EXPECT_EQ(GgufFile(directory.write("x.gguf", gguf(1, 0, one, four))).tensor("t").values(),
            (std::vector<double>{1, 2, 3, 4}));
  EXPECT_HAS(refusal("GGML"), "GGUF");
  EXPECT_HAS(refusal(std::string(40, 'x')), "does not begin with GGUF");
  EXPECT_HAS(refusal(gguf(0, 0, "", "", 1)), "version 1");
  EXPECT_HAS(refusal("GGUF" + std::string("\0\0\0\3", 4) + std::string(16, '\0')), "big-endian");
  EXPECT_HAS(refusal(gguf(uint64_t{1} << 60, 0, one, four)), "number of tensors");
  EXPECT_HAS(refusal(gguf(1, uint64_t{1} << 60, one, four)), "metadata values");
  EXPECT_HAS(refusal(gguf(1, 0, le(uint64_t{1} << 62, 8) + "t", four)), "name");
  EXPECT_HAS(refusal(gguf(0, 1, text("k") + le(9, 4) + le(0, 4) + le(uint64_t{1} << 61, 8), "")), "list");
  EXPECT_HAS(refusal(gguf(0, 1, text("k") + le(9, 4) + le(9, 4) + le(1, 8), "")), "list of lists");
  EXPECT_HAS(refusal(gguf(0, 1, text("k") + le(77, 4), "")), "77");
  EXPECT_HAS(refusal(gguf(0, 1, text("k\xff") + le(4, 4) + le(1, 4), "")), "UTF-8");
  EXPECT_HAS(refusal(gguf(0, 2, u32("k", 1) + u32("k", 2), "")), "twice");
  EXPECT_HAS(refusal(gguf(1, 1, u32("general.alignment", 3) + one, four)), "alignment");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {4}, 99, 0), four)), "99");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {1, 1, 1, 1, 4}, 0, 0), four)), "dimensions");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0), four)), "too large");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {5}, 8, 0), four)), "blocks of 32");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {5}, 0, 0), four)), "behind the file's end");
  EXPECT_HAS(refusal(gguf(1, 0, tensor("t", {4}, 0, 32), four + four + four + four)), "begins at 32");
  EXPECT_HAS(refusal(gguf(2, 0, one + one, four)), "two of this name");
  EXPECT_HAS(refusal(gguf(2, 0, one + tensor("u", {4}, 0, 0), four)), "overlap");
  EXPECT_HAS(refusal(gguf(1, 0, one, four + std::string(64, '\0'))), "belong to no tensor");
  // Any cut in the header or the data.
  const std::string whole = gguf(1, 1, u32("k", 1) + one, four);
  for (size_t n = 0; n < whole.size(); ++n) refusal(whole.substr(0, n));
}

TEST(Gguf, QuantisedTensorsAreListedAndRefusedWhenRead) {
  const TemporaryDirectory directory;
  const GgufFile file(directory.write("x.gguf", gguf(1, 0, tensor("q", {32, 2}, 8, 0), std::string(68, '\1'))));
  EXPECT_EQ(file.info("q").shape, (Shape{2, 32}));
  EXPECT_EQ(file.bytes("q"), 68u);
  EXPECT_HAS(usage_error_of([&] { file.tensor("q"); }), "Q8_0");
}

TEST(Gguf, NamesThatGgmlDoesNotTakeAreRefused) {
  const TemporaryDirectory directory;
  EXPECT_HAS(usage_error_of([&] {
               write_gguf(directory.file("x"), {}, {{std::string(64, 'n'), Tensor::zeros({1}, Dtype::kF32)}});
             }),
             "63");
  EXPECT_FALSE(std::filesystem::exists(directory.file("x")));
}

}  // namespace
}  // namespace molt::io
