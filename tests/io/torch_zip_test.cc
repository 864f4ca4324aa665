// Files of torch.save: views, tied tensors and both zip forms are read; anything that is not a plain state dict is
// refused by name.
#include "molt/io/torch_zip.h"

#include "tests/io/fixtures.h"

namespace molt::io {
namespace {

using testing::raw_bytes;
using testing::TemporaryDirectory;
using testing::torch_file;
using testing::usage_error_of;
namespace pickle = testing::pickle;

const std::string kTwelve = raw_bytes<float>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});

/// A state dict of one tensor `a` over a storage of twelve floats.
std::string one(const pickle::View& view, const std::string& storage = kTwelve) {
  return torch_file(pickle::state_dict({view}), {{"0", storage}});
}

TEST(TorchZip, ReadsDenseTiedTransposedSlicedAndExpanded) {
  const TemporaryDirectory directory;
  const std::string code = pickle::state_dict({{"dense", "FloatStorage", "0", 12, 0, {3, 4}, {4, 1}},
                                               {"tied", "FloatStorage", "0", 12, 0, {3, 4}, {4, 1}},
                                               {"transposed", "FloatStorage", "0", 12, 0, {4, 3}, {1, 4}},
                                               {"columns", "FloatStorage", "0", 12, 1, {3, 2}, {4, 1}},
                                               {"rows", "FloatStorage", "0", 12, 4, {2, 4}, {4, 1}},
                                               {"cube", "FloatStorage", "0", 12, 0, {2, 3, 2}, {1, 4, 2}},
                                               {"scalar", "FloatStorage", "0", 12, 11, {}, {}},
                                               {"ones", "FloatStorage", "0", 12, 5, {1, 2, 1}, {99, 1, 77}},
                                               {"expanded", "FloatStorage", "0", 12, 3, {4}, {0}},
                                               {"empty", "FloatStorage", "0", 12, 12, {0, 3}, {3, 1}}});
  for (const bool zip64 : {false, true}) {
    const TorchZipFile file(directory.write("x.bin", torch_file(code, {{"0", kTwelve}}, zip64)));
    const auto values = [&](const char* name) { return file.tensor(name).values(); };
    using V = std::vector<double>;
    EXPECT_EQ(values("dense"), (V{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
    EXPECT_EQ(file.tensor("dense").raw(), file.tensor("tied").raw()) << "views of one mapping";
    EXPECT_EQ(values("transposed"), (V{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
    EXPECT_EQ(file.tensor("transposed").shape(), (Shape{4, 3}));
    EXPECT_EQ(values("columns"), (V{1, 2, 5, 6, 9, 10}));
    EXPECT_EQ(values("rows"), (V{4, 5, 6, 7, 8, 9, 10, 11}));
    EXPECT_EQ(values("cube"), (V{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11}));
    EXPECT_EQ(values("scalar"), (V{11}));
    EXPECT_EQ(values("ones"), (V{5, 6}));
    EXPECT_EQ(values("expanded"), (V{3, 3, 3, 3}));
    EXPECT_EQ(file.tensor("empty").shape(), (Shape{0, 3}));
    EXPECT_EQ(file.names().size(), 10u);
    EXPECT_EQ(file.names().front(), "columns");
  }
}

TEST(TorchZip, ReadsEveryDtypeWeComputeWith) {
  const TemporaryDirectory directory;
  struct Case {
    const char* storage;
    std::string bytes;
    Dtype dtype;
  };
  const Case cases[] = {{"DoubleStorage", raw_bytes<double>({1, 2}), Dtype::kF64},
                        {"FloatStorage", raw_bytes<float>({1, 2}), Dtype::kF32},
                        {"HalfStorage", raw_bytes<f16>({f16(1), f16(2)}), Dtype::kF16},
                        {"BFloat16Storage", raw_bytes<bf16>({bf16(1), bf16(2)}), Dtype::kBf16},
                        {"LongStorage", raw_bytes<int64_t>({1, 2}), Dtype::kI64},
                        {"IntStorage", raw_bytes<int32_t>({1, 2}), Dtype::kI32},
                        {"CharStorage", raw_bytes<int8_t>({1, 2}), Dtype::kI8},
                        {"ByteStorage", raw_bytes<uint8_t>({1, 2}), Dtype::kU8}};
  for (const Case& c : cases) {
    const TorchZipFile file(directory.write("x.bin", one({"a", c.storage, "0", 2, 0, {2}, {1}}, c.bytes)));
    EXPECT_EQ(file.tensor("a").dtype(), c.dtype);
    EXPECT_EQ(file.tensor("a").values(), (std::vector<double>{1, 2})) << c.storage;
  }
  const TorchZipFile file(directory.write("x.bin", one({"a", "BoolStorage", "0", 2, 0, {2}, {1}}, "ab")));
  EXPECT_HAS(usage_error_of([&] { (void)file.tensor("a"); }), "BOOL");
  EXPECT_HAS(usage_error_of([&] { (void)file.tensor("b"); }), "'b'");
}

TEST(TorchZip, ReadsParametersMetadataAndNewerProtocols) {
  const TemporaryDirectory directory;
  const pickle::View view{"a", "FloatStorage", "0", 12, 0, {2}, {1}};
  // OrderedDict(a=Parameter(…)) with the attribute _metadata that module.state_dict() sets.
  const std::string parameter = pickle::global("torch._utils", "_rebuild_parameter") + "(" + pickle::tensor(view) +
                                "\x88" + pickle::ordered_dict() + "tR";
  const std::string metadata = "}" + pickle::text("_metadata") + pickle::ordered_dict() + pickle::text("") + "}" +
                               pickle::text("version") + "K\1" + "s" + "s" + "s" + "b";
  const std::string code = "\x80\x02" + pickle::ordered_dict() + pickle::text("a") + parameter + "s" + metadata + ".";
  const TorchZipFile first(directory.write("x.bin", torch_file(code, {{"0", kTwelve}})));
  EXPECT_EQ(first.tensor("a").values(), (std::vector<double>{0, 1}));

  // Protocol 4: frames, short strings, memoised globals from the stack.
  const auto word = [](const std::string& s) { return "\x8c" + testing::le(s.size(), 1) + s + "\x94"; };
  const std::string tensor4 = word("torch._utils") + word("_rebuild_tensor_v2") + "\x93\x94" + "((" + word("storage") +
                              word("torch") + word("FloatStorage") + "\x93\x94" + word("0") + word("cpu") +
                              "K\x0ct\x94QK\x05K\x03\x85\x94K\x01\x85\x94\x89}t\x94R\x94";
  const std::string code4 = "\x80\x04\x95" + testing::le(200, 8) + "}\x94(" + word("b") + tensor4 + "u.";
  const TorchZipFile second(directory.write("y.bin", torch_file(code4, {{"0", kTwelve}})));
  EXPECT_EQ(second.tensor("b").values(), (std::vector<double>{5, 6, 7}));
}

TEST(TorchZip, RefusesEveryOtherFunctionByName) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& code) {
    const std::string path = directory.write("x.bin", torch_file(code, {{"0", kTwelve}}));
    return usage_error_of([&] { TorchZipFile file(path); });
  };
  const std::string call = "(" + pickle::text("touch /tmp/x") + "tR.";
  EXPECT_HAS(message("\x80\x02" + pickle::global("os", "system") + call), "'os.system'");
  EXPECT_HAS(message("\x80\x02" + pickle::global("builtins", "eval") + call), "'builtins.eval'");
  EXPECT_HAS(message("\x80\x04" + pickle::text("torch") + pickle::text("load") + "\x93" + call), "'torch.load'");
  EXPECT_HAS(message("\x80\x02" + pickle::global("torch.storage", "UntypedStorage") + "."), "UntypedStorage");
  EXPECT_HAS(message("\x80\x02ios\nsystem\n."), "instruction 105");  // INST
  EXPECT_HAS(message("\x80\x02}\x81."), "instruction 129");          // NEWOBJ
}

TEST(TorchZip, RefusesWhatIsNotADictOfTensors) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& code) {
    const std::string path = directory.write("x.bin", torch_file(code, {{"0", kTwelve}}));
    return usage_error_of([&] { TorchZipFile file(path); });
  };
  const std::string start = "\x80\x02";
  EXPECT_HAS(message(start + "]."), "a list");
  EXPECT_HAS(message(start + "}" + pickle::text("epoch") + "K\3s."), "no tensor");
  EXPECT_HAS(message(start + "}" + pickle::text("model") + "}s."), "no tensor");
  EXPECT_HAS(message(start + "}N}s."), "a key of its dict is None");
  EXPECT_HAS(message(start + "}" + pickle::text("\xff") + "}s."), "UTF-8");
  EXPECT_HAS(message(start + "}" + pickle::text(std::string(3000, 'x')) + "}s."), "too long");
  EXPECT_HAS(message("\x80\x09}."), "protocol 9");
  // A list inside itself, a dict inside itself, a tuple of itself by memo: loops are data, not recursion.
  EXPECT_HAS(message(start + "]q\1h\1a."), "a list");
  EXPECT_HAS(message(start + "}q\1" + pickle::text("x") + "h\1s."), "nests deeper");
  // Nine dicts, each a hundred times in the next: 10^16 visits if they were not counted.
  std::string bomb = start + "}q\1";
  for (int level = 0; level < 8; ++level) {
    bomb += "}(";
    for (int i = 0; i < 100; ++i) bomb.append("K").append(1, static_cast<char>(i)).append("h\1");
    bomb += "uq\1";
  }
  EXPECT_HAS(message(bomb + "."), "more values");
  std::string nested = start;
  for (int i = 0; i < 100'000; ++i) nested += "(";
  for (int i = 0; i < 100'000; ++i) nested += "t";
  EXPECT_HAS(message(nested + "."), "a tuple");
}

TEST(TorchZip, RefusesDamagedPickles) {
  const TemporaryDirectory directory;
  const std::string start = "\x80\x02";
  const std::string bodies[] = {
      "",             // ends before STOP
      ".",            // empty stack
      "0.",           // POP is not needed
      "t.",           // no mark
      "(}u.",         // dict above the mark only
      "}(K\1u.",      // odd number of items
      "}K\1s.",       // key missing
      "K\1K\1K\1s.",  // not a dict
      "h\5.",         // nothing remembered there
      "q\1.",         // nothing to remember
      "R.",
      "K\1K\1R.",
      pickle::global("torch", "FloatStorage") + ")R.",  // a storage class is not a function
      pickle::global("torch._utils", "_rebuild_tensor_v2") + ")R.",
      pickle::global("torch._utils", "_rebuild_parameter") + ")R.",
      pickle::global("collections", "OrderedDict") + "K\1\x85R.",
      ")Q.",
      "K\1Q.",
      "(" + pickle::text("module") + pickle::global("torch", "FloatStorage") + pickle::text("0") + "NK\1tQ.",
      "X\xff\xff\xff\xff"
      "abc.",  // a string of 4 GB
      "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
      "abc.",    // and one of 2^64
      "ctorch",  // a line without end
      "\x8a\xff"
      "abc.",  // an integer of 255 bytes
  };
  for (const std::string& body : bodies) {
    const std::string path = directory.write("x.bin", torch_file(start + body, {}));
    EXPECT_HAS(usage_error_of([&] { TorchZipFile file(path); }), "x.bin: the pickle");
  }
}

TEST(TorchZip, RefusesViewsThatLeaveTheirStorage) {
  const TemporaryDirectory directory;
  constexpr int64_t kHuge = INT64_MAX;
  const pickle::View views[] = {
      {"a", "FloatStorage", "0", 12, 0, {13}, {1}},
      {"a", "FloatStorage", "0", 12, 1, {12}, {1}},
      {"a", "FloatStorage", "0", 12, -1, {2}, {1}},
      {"a", "FloatStorage", "0", 12, 0, {2}, {-1}},
      {"a", "FloatStorage", "0", 12, 12, {1}, {1}},
      {"a", "FloatStorage", "0", 12, 13, {0}, {1}},
      {"a", "FloatStorage", "0", 12, kHuge, {2}, {1}},
      {"a", "FloatStorage", "0", 12, 0, {2}, {kHuge}},
      {"a", "FloatStorage", "0", 12, 0, {3, 3}, {kHuge, kHuge}},
      {"a", "FloatStorage", "0", 12, 0, {kHuge}, {0}},
      {"a", "FloatStorage", "0", 12, 0, {int64_t{1} << 40, int64_t{1} << 40}, {0, 0}},
      {"a", "FloatStorage", "0", 12, 0, {int64_t{1} << 40, int64_t{1} << 40, 0}, {0, 0, 1}},
      {"a", "FloatStorage", "0", 12, 0, {-1}, {1}},
      {"a", "FloatStorage", "0", 12, 0, {2, 2}, {1}},
      {"a", "FloatStorage", "0", 12, 0, std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1)},
      {"a", "FloatStorage", "0", 13, 0, {2}, {1}},   // the file holds 12
      {"a", "DoubleStorage", "0", 12, 0, {2}, {1}},  // of four bytes
      {"a", "FloatStorage", "0", -12, 0, {2}, {1}},
      {"a", "FloatStorage", "0", kHuge, 0, {2}, {1}},
      {"a", "FloatStorage", "1", 12, 0, {2}, {1}},  // no such storage
      {"a", "FloatStorage", "../version", 12, 0, {2}, {1}},
      {"a", "FloatStorage", std::string(33, '0'), 12, 0, {2}, {1}},
  };
  for (const auto& view : views) {
    const std::string path = directory.write("x.bin", one(view));
    EXPECT_HAS(usage_error_of([&] { TorchZipFile file(path); }), "x.bin");
  }
  // Fits its storage, yet would fill the memory.
  const TorchZipFile file(directory.write("x.bin", one({"a", "FloatStorage", "0", 12, 0, {int64_t{1} << 40}, {0}})));
  EXPECT_HAS(usage_error_of([&] { (void)file.tensor("a"); }), "repeat");
}

TEST(TorchZip, RefusesOtherFilesAndZips) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& bytes) {
    const std::string path = directory.write("x.bin", bytes);
    return usage_error_of([&] { TorchZipFile file(path); });
  };
  EXPECT_HAS(message("\x80\x02\x8a\x0al\xfc\x9c"
                     "F\xf9 j\xa8P\x19."),
             "before 1.6");
  EXPECT_HAS(message("hello, this is text"), "does not begin as a zip");
  EXPECT_HAS(message(""), "does not begin as a zip");
  EXPECT_HAS(message("PK\3\4"), "truncated");
  EXPECT_HAS(message(testing::zip({{"a/other", "x"}})), "without data.pkl");
  EXPECT_HAS(message(testing::zip({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})), "more than one");
  EXPECT_HAS(message(testing::zip({{"a/x", "x"}, {"a/x", "x"}})), "two entries");
  EXPECT_HAS(message(testing::zip({{"a/data.pkl", "x"}}, false, 8)), "compressed");
  EXPECT_HAS(message(testing::zip({{"a/data.pkl", "x"}, {"a/byteorder", "big"}})), "'big'");
}

TEST(TorchZip, CutAnywhereIsAUsageErrorAndChangedBytesNeverCrash) {
  const TemporaryDirectory directory;
  const std::string code = pickle::state_dict(
      {{"a", "FloatStorage", "0", 12, 0, {3, 4}, {4, 1}}, {"t", "FloatStorage", "0", 12, 0, {4, 3}, {1, 4}}});
  for (const bool zip64 : {false, true}) {
    const std::string whole = torch_file(code, {{"0", kTwelve}}, zip64);
    ASSERT_TRUE(testing::reads<TorchZipFile>(directory.write("whole", whole)));
    for (size_t n = 0; n < whole.size(); ++n) {
      EXPECT_FALSE(testing::reads<TorchZipFile>(directory.write("cut", whole.substr(0, n)))) << n << " bytes";
    }
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const int change : {1, 0x80, 0xff}) {
        std::string bytes = whole;
        bytes[i] = static_cast<char>(bytes[i] ^ change);
        (void)testing::reads<TorchZipFile>(directory.write("changed", bytes));
      }
    }
  }
}

TEST(TorchZip, ReadsWhatTorchWrote) {
  const std::string golden = std::string(MOLT_SOURCE_DIR) + "/tests/golden/torch_bin/";
  const Json expected = read_json_file(golden + "golden.json");
  for (const auto& [name, tensors] : expected["files"].items()) {
    const TorchZipFile file(golden + name);
    EXPECT_EQ(file.names().size(), tensors.size()) << name;
    for (const auto& [tensor, facts] : tensors.items()) testing::expect_golden(file, tensor, facts);
  }
  for (const Json& name : expected["bad"]) {
    const std::string path = golden + "bad/" + name.get<std::string>();
    EXPECT_HAS(usage_error_of([&] { TorchZipFile file(path); }), path);
  }
}

// The pickle alone, cut at every byte: what the zip's own checks would hide.
TEST(TorchZip, CutPicklesAreUsageErrors) {
  const TemporaryDirectory directory;
  const std::string code = pickle::state_dict({{"a", "FloatStorage", "0", 12, 0, {3, 4}, {4, 1}}});
  for (size_t n = 0; n < code.size(); ++n) {
    EXPECT_THROW(read_state_dict_pickle(std::string_view(code).substr(0, n), "x"), UsageError) << n;
  }
  EXPECT_EQ(read_state_dict_pickle(code, "x").size(), 1u);
}

}  // namespace
}  // namespace molt::io
