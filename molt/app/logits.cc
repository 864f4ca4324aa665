#include "molt/app/logits.h"

#include <charconv>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/io/safetensors.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// Segments one after the other.
struct TokenRows {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets = {0};
};

std::vector<int64_t> whole_numbers(const io::SafetensorsFile& file, const std::string& name) {
  const Tensor stored = file.tensor(name);
  if (stored.rank() != 1 || (stored.dtype() != Dtype::kI32 && stored.dtype() != Dtype::kI64))
    usage_error(file.path(), ": ", name, ": expected a row of i32 or i64, found ", dtype_name(stored.dtype()), " ",
                shape_str(stored.shape()));
  std::vector<int64_t> values;
  for (int64_t i = 0; i < stored.dim(0); ++i)
    values.push_back(stored.dtype() == Dtype::kI64 ? stored.data<int64_t>()[i] : stored.data<int32_t>()[i]);
  return values;
}

TokenRows rows_from_file(const std::string& path, int64_t vocabulary) {
  const io::SafetensorsFile file(path);
  if (!file.has("tokens")) usage_error(path, ": holds no tensor \"tokens\"");
  TokenRows rows;
  for (const int64_t id : whole_numbers(file, "tokens")) {
    if (id < 0 || id >= vocabulary) usage_error(path, ": tokens: ", id, " is no row of a vocabulary of ", vocabulary);
    rows.ids.push_back(static_cast<int32_t>(id));
  }
  const auto total = static_cast<int64_t>(rows.ids.size());
  rows.offsets = file.has("offsets") ? whole_numbers(file, "offsets") : std::vector<int64_t>{0, total};
  bool good = rows.offsets.size() > 1 && rows.offsets.front() == 0 && rows.offsets.back() == total;
  for (size_t i = 1; i < rows.offsets.size(); ++i) good = good && rows.offsets[i] > rows.offsets[i - 1];
  if (!good) usage_error(path, ": offsets: expected to rise from 0 to ", total, ", the number of tokens");
  return rows;
}

TokenRows rows_from_list(const std::string& list, int64_t vocabulary) {
  TokenRows rows;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (true) {
    int64_t id = -1;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || (next != end && *next != ',' && *next != ';'))
      usage_error("--tokens: expected ids such as 1,2,3;4,5 or a file, found '", list, "'");
    if (id < 0 || id >= vocabulary) usage_error("--tokens: ", id, " is no row of a vocabulary of ", vocabulary);
    rows.ids.push_back(static_cast<int32_t>(id));
    if (next == end || *next == ';') rows.offsets.push_back(static_cast<int64_t>(rows.ids.size()));
    if (next == end) return rows;
    at = next + 1;
  }
}

TokenRows rows_of(const LogitsOptions& options, Workspace& workspace) {
  if (options.tokens.empty() == options.text.empty())
    usage_error("logits: expected either --tokens or --text, ", options.text.empty() ? "found neither" : "found both");
  const int64_t vocabulary = workspace.model().plan().vocabulary;
  if (!options.text.empty()) {
    TokenRows rows{.ids = workspace.tokenizer().encode(options.text)};
    rows.offsets.push_back(static_cast<int64_t>(rows.ids.size()));
    return rows;
  }
  return fs::exists(options.tokens) ? rows_from_file(options.tokens, vocabulary)
                                    : rows_from_list(options.tokens, vocabulary);
}

template <class T>
Tensor row_of(const std::vector<T>& values) {
  const std::vector<int64_t> wide(values.begin(), values.end());
  Tensor row = Tensor::empty({static_cast<int64_t>(wide.size())}, Dtype::kI64);
  std::copy(wide.begin(), wide.end(), row.data<int64_t>());
  return row;
}

}  // namespace

LogitsWritten write_logits(const LogitsOptions& options) {
  if (fs::exists(options.out)) usage_error(options.out, ": is there already; choose another name");
  Workspace workspace(options.model);
  const TokenRows rows = rows_of(options, workspace);
  const Segments segments(rows.offsets);
  std::vector<int64_t> all(rows.ids.size());
  for (size_t t = 0; t < all.size(); ++t) all[t] = static_cast<int64_t>(t);

  const NoGrad no_grad;
  const eval::ModelView view = workspace.view();
  const nn::Context c = view.context(segments);
  const Tensor logits = view.model.logits(c, view.model.hidden(c, rows.ids), all).value();
  io::write_safetensors(
      options.out,
      {{"tokens", row_of(rows.ids)}, {"offsets", row_of(rows.offsets)}, {"logits", logits.to(Dtype::kF32)}});
  return {segments.count(), segments.tokens(), view.vocabulary()};
}

}  // namespace molt::app
