// Safetensors files: what is written is read back and is what the reference writes; wrong files are refused by name.
#include "molt/io/safetensors.h"

#include "molt/base/json.h"
#include "tests/io/fixtures.h"

namespace molt::io {
namespace {

using testing::raw_bytes;
using testing::safetensors;
using testing::TemporaryDirectory;
using testing::usage_error_of;

const std::string kGolden = std::string(MOLT_SOURCE_DIR) + "/tests/golden/";

TEST(Safetensors, ReadsWhatTheReferenceWroteAndWritesTheSameBytes) {
  const TemporaryDirectory directory;
  int files = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(kGolden)) {
    if (item.path().extension() != ".safetensors" || item.path().parent_path().filename() == "bad") continue;
    const SafetensorsFile file(item.path().string());
    NamedTensors tensors;
    bool ours = true;
    for (const std::string& name : file.names()) {
      ours = ours && file.info(name).dtype->dtype.has_value();
      if (ours) tensors.emplace_back(name, file.tensor(name));
    }
    if (!ours) continue;
    write_safetensors(directory.file("copy"), tensors, file.metadata());
    EXPECT_TRUE(read_file(directory.file("copy")) == read_file(item.path().string())) << item.path();
    ++files;
  }
  EXPECT_GE(files, 3);
}

TEST(Safetensors, AgreesWithTheReferenceOnEveryFile) {
  const std::string golden = kGolden + "safetensors/";
  const Json expected = read_json_file(golden + "golden.json");
  for (const auto& [name, facts] : expected["files"].items()) {
    const SafetensorsFile file(golden + name);
    EXPECT_EQ(Json(file.metadata()), facts["metadata"]) << name;
    EXPECT_EQ(file.names().size(), facts["tensors"].size()) << name;
    for (const auto& [tensor, values] : facts["tensors"].items()) testing::expect_golden(file, tensor, values);
  }
  for (const auto& [name, message] : expected["refused_by_safetensors"].items()) {
    const std::string path = golden + name;
    if (message.is_null()) continue;  // a name that stands twice: the reference takes the later one
    EXPECT_HAS(usage_error_of([&, &file_path = path] { SafetensorsFile file(file_path); }), path);
  }
}

TEST(Safetensors, RoundTripsEveryDtypeAndShape) {
  const TemporaryDirectory directory;
  const Tensor matrix = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const NamedTensors tensors{{"f32", matrix},
                             {"bf16", matrix.to(Dtype::kBf16)},
                             {"f16", matrix.to(Dtype::kF16)},
                             {"f64", matrix.to(Dtype::kF64)},
                             {"i64", matrix.to(Dtype::kI64)},
                             {"i32", matrix.to(Dtype::kI32)},
                             {"i8", matrix.to(Dtype::kI8)},
                             {"u8", matrix.to(Dtype::kU8)},
                             {"scalar", Tensor::from<float>({7}, {})},
                             {"empty", Tensor::zeros({0, 4}, Dtype::kF32)},
                             {"naïve \"name\"\n", matrix}};
  write_safetensors(directory.file("x.safetensors"), tensors, {{"format", "pt"}, {"k", "v"}});
  const SafetensorsFile file(directory.file("x.safetensors"));
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v"}}));
  for (const auto& [name, tensor] : tensors) {
    const Tensor back = file.tensor(name);
    EXPECT_EQ(back.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(back.shape(), tensor.shape()) << name;
    EXPECT_EQ(back.values(), tensor.values()) << name;
  }
  EXPECT_EQ(load_le(read_file(directory.file("x.safetensors")).data(), 8) % 8, 0u) << "data must stay aligned";
}

TEST(Safetensors, ColumnViewsAreWrittenDensely) {
  const TemporaryDirectory directory;
  // More rows than one buffer of 1 MiB holds.
  const int64_t rows = 300'000;
  Tensor wide = Tensor::empty({rows, 3}, Dtype::kF32);
  for (int64_t i = 0; i < rows * 3; ++i) wide.data<float>()[i] = static_cast<float>(i);
  const Tensor view = wide.col_range(1, 2);
  write_safetensors(directory.file("x"), {{"view", view}});
  const Tensor back = SafetensorsFile(directory.file("x")).tensor("view");  // outlives the file object
  EXPECT_TRUE(back.contiguous());
  EXPECT_TRUE(back.values() == view.values());
}

TEST(Safetensors, TensorsAreViewsThatKeepTheMapping) {
  const TemporaryDirectory directory;
  write_safetensors(directory.file("x"), {{"a", Tensor::from<float>({1, 2}, {2})}});
  Tensor first, second;
  {
    const SafetensorsFile file(directory.file("x"));
    first = file.tensor("a");
    second = file.tensor("a");
  }
  EXPECT_EQ(first.raw(), second.raw());
  std::filesystem::remove(directory.file("x"));
  EXPECT_EQ(first.values(), (std::vector<double>{1, 2}));
}

TEST(Safetensors, UnalignedDataIsReadRight) {
  const TemporaryDirectory directory;
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  const std::string path = directory.write("x", safetensors(header, "\x05" + raw_bytes<float>({1.5f, -2})));
  EXPECT_EQ(SafetensorsFile(path).tensor("b").values(), (std::vector<double>{1.5, -2}));
}

TEST(Safetensors, DtypesWeDoNotComputeWithAreRefusedByNameWhenRead) {
  const TemporaryDirectory directory;
  const std::string header = R"({"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})";
  const SafetensorsFile file(directory.write("x", safetensors(header, "abcd")));
  EXPECT_STREQ(file.info("q").dtype->word, "F8_E4M3");
  const std::string message = usage_error_of([&] { (void)file.tensor("q"); });
  EXPECT_HAS(message, "F8_E4M3");
  EXPECT_HAS(message, "'q'");
  EXPECT_HAS(usage_error_of([&] { (void)file.tensor("nope"); }), "'nope'");
}

TEST(Safetensors, RefusesWrongHeaders) {
  const TemporaryDirectory directory;
  struct Case {
    const char *header, *part;
  };
  // The data is 8 bytes.
  const Case cases[] = {
      {R"([])", "JSON object"},
      {R"({)", "not valid JSON"},
      {R"({"a":3})", "'a'"},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "dtype"},
      {R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", "unknown dtype 'F99'"},
      {R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}})", "out of range"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "backwards"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", "data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", "truncated"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "needs 12 bytes"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "too large"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}})", "too large"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "gap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "belong to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "overlap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "overlap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":1}})", "'k'"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":[]})", "__metadata__"},
      {R"({"a\nb":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "a\\nb"},
  };
  for (const Case& c : cases) {
    const std::string path = directory.write("bad.safetensors", safetensors(c.header, "12345678"));
    const std::string message = usage_error_of([&] { SafetensorsFile file(path); });
    EXPECT_HAS(message, c.part);
    EXPECT_HAS(message, "bad.safetensors");
    EXPECT_EQ(message.find('\n'), std::string::npos) << "one line: " << message;
  }
}

TEST(Safetensors, RefusesWrongSizesAndOtherFiles) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& bytes) {
    const std::string path = directory.write("x.safetensors", bytes);
    return usage_error_of([&] { SafetensorsFile file(path); });
  };
  EXPECT_HAS(message(""), "0 bytes");
  EXPECT_HAS(message("abc"), "3 bytes");
  EXPECT_HAS(message(testing::le(100, 8) + "{}"), "truncated");
  EXPECT_HAS(message(testing::le(~uint64_t{0}, 8) + "{}"), "at most");
  EXPECT_HAS(message("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "git lfs pull");
  EXPECT_HAS(message(safetensors(std::string(1'000'000, '['), "")), "deeper");
  EXPECT_HAS(usage_error_of([&] { SafetensorsFile file(directory.path()); }), "directory");
  EXPECT_HAS(usage_error_of([&] { SafetensorsFile file(directory.file("none")); }), "none");
}

TEST(Safetensors, CutAnywhereIsAUsageErrorAndChangedBytesNeverCrash) {
  const TemporaryDirectory directory;
  write_safetensors(directory.file("whole"),
                    {{"a", Tensor::from<float>({1, 2, 3}, {3})}, {"b", Tensor::from<int8_t>({1, 2, 3, 4}, {2, 2})}});
  const std::string whole = read_file(directory.file("whole"));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(testing::reads<SafetensorsFile>(directory.write("cut", whole.substr(0, n)))) << n << " bytes";
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {1, 0x10, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ change);
      (void)testing::reads<SafetensorsFile>(directory.write("changed", bytes));
    }
  }
}

TEST(Safetensors, WriterRefusesImpossibleNamesAndFullDisks) {
  const TemporaryDirectory directory;
  const Tensor t = Tensor::zeros({1}, Dtype::kF32);
  for (const char* name : {"", "__metadata__", "\xff"}) {
    EXPECT_THROW(write_safetensors(directory.file("x"), {{name, t}}), UsageError);
  }
  EXPECT_THROW(write_safetensors(directory.file("x"), {{"a", t}, {"a", t}}), InternalError);
  EXPECT_FALSE(std::filesystem::exists(directory.file("x")));
  EXPECT_THROW(write_safetensors(directory.file("no/such/directory/x"), {{"a", t}}), SystemError);
  EXPECT_NO_THROW(require_disk_room(directory.file("x"), 1));
  try {
    require_disk_room(directory.file("x"), uint64_t{1} << 62);
    FAIL() << "no disk has 2^62 bytes";
  } catch (const SystemError& e) {
    EXPECT_HAS(std::string(e.what()), "needs 4");
  }
}

TEST(TensorFile, TextHelpers) {
  EXPECT_EQ(in_quotes("a\nb"), "'a\\nb'");
  EXPECT_LT(in_quotes(std::string(1000, 'x')).size(), 140u);
  EXPECT_TRUE(is_utf8("aé€😀"));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    EXPECT_FALSE(is_utf8(bad)) << in_quotes(bad);
  }
}

}  // namespace
}  // namespace molt::io
