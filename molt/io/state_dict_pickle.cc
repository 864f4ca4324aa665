#include "molt/io/state_dict_pickle.h"

#include <optional>
#include <unordered_map>

#include "molt/base/format.h"
#include "molt/io/mapped_file.h"

namespace molt::io {
namespace {

// A hostile pickle makes a value from every byte; a tensor takes some 25 values.
constexpr size_t kMaxValues = 8'000'000;
constexpr size_t kMaxVisits = 2'000'000, kMaxTensors = 1'000'000, kMaxRank = 16, kMaxKey = 32, kMaxName = 2000;
constexpr int kMaxDepth = 8;
constexpr uint64_t kMaxPickle = 100'000'000;

enum class Kind : uint8_t { kNone, kBool, kInt, kFloat, kString, kGlobal, kTuple, kList, kDict, kStorage, kTensor };

const char* kind_name(Kind kind) {
  constexpr const char* kNames[] = {"None",    "a bool", "an int", "a float",   "a string", "a function",
                                    "a tuple", "a list", "a dict", "a storage", "a tensor"};
  return kNames[static_cast<int>(kind)];
}

enum Global : int64_t { kOrderedDict, kRebuildTensor, kRebuildParameter, kFirstStorage };

struct StorageClass {
  std::string_view name;
  const char* dtype;
};
constexpr StorageClass kStorages[] = {
    {"FloatStorage", "F32"}, {"DoubleStorage", "F64"}, {"HalfStorage", "F16"},  {"BFloat16Storage", "BF16"},
    {"LongStorage", "I64"},  {"IntStorage", "I32"},    {"ShortStorage", "I16"}, {"CharStorage", "I8"},
    {"ByteStorage", "U8"},   {"BoolStorage", "BOOL"},
};

using Id = uint32_t;  // index of a value: containers name their members, so that loops in the data are harmless

struct Value {
  Kind kind;
  int64_t number = 0;     // bool, int; which Global; index of a tensor; elements of a storage
  std::string_view text;  // string; key of a storage
  std::vector<Id> items;  // tuple, list; dict as key, value, key, value; a storage's class
};

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& where) : pickle_(pickle), where_(where) {}

  std::vector<std::pair<std::string, PickledTensor>> run() {
    if (pickle_.size() > kMaxPickle)
      fail("it has ", format_bytes(static_cast<int64_t>(pickle_.size())), ", more than any state dict needs");
    while (step()) {
    }
    const Value& root = at(pop());
    if (root.kind != Kind::kDict) fail("it holds ", kind_name(root.kind), ", expected a dict of tensors");
    collect(root, "", 0);
    if (result_.empty() && !root.items.empty()) fail("its dict holds no tensor; expected names and their tensors");
    return std::move(result_);
  }

 private:
  template <class... What>
  [[noreturn]] void fail(const What&... what) const {
    usage_error(where_, ": ", what...);
  }
  [[noreturn]] void damaged() const { fail("the pickle is damaged at byte ", at_); }

  /// Tensors of a dict and of the dicts in it. A dict may stand in itself, or a thousand times in another: what is
  /// visited is bounded in depth, in number and in the length of its names.
  void collect(const Value& dict, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) fail("its dict nests deeper than ", kMaxDepth, " levels");
    for (size_t i = 0; i < dict.items.size(); i += 2) {
      if (++visited_ > kMaxVisits) fail("it holds more values than any state dict");
      const Value &key = at(dict.items[i]), &value = at(dict.items[i + 1]);
      if (value.kind != Kind::kTensor && value.kind != Kind::kDict) continue;
      if (key.kind != Kind::kString && key.kind != Kind::kInt) {
        fail("a key of its dict is ", kind_name(key.kind), ", expected a tensor's name");
      }
      const std::string word = key.kind == Kind::kInt ? str(key.number) : std::string(key.text.substr(0, kMaxName + 1));
      const std::string name = prefix.empty() ? word : prefix + "." + word;
      if (name.size() > kMaxName || (name_bytes_ += name.size()) > kMaxPickle) fail("the names in it are too long");
      if (!is_utf8(word)) fail("the name ", in_quotes(word), " is not UTF-8");
      if (value.kind == Kind::kDict) {
        collect(value, name, depth + 1);
        continue;
      }
      const auto [it, added] = position_.emplace(name, result_.size());
      if (added) result_.emplace_back(name, PickledTensor{});
      result_[it->second].second = tensors_[static_cast<size_t>(value.number)];  // assigning a key again replaces
    }
  }

  std::string_view take(uint64_t n) {
    if (n > pickle_.size() - at_) fail("the pickle is truncated");
    const std::string_view bytes = pickle_.substr(at_, n);
    at_ += n;
    return bytes;
  }
  uint64_t take_number(int bytes) { return load_le(take(static_cast<uint64_t>(bytes)).data(), bytes); }
  std::string_view take_line() {
    const size_t end = pickle_.find('\n', at_);
    if (end == std::string_view::npos) fail("the pickle is truncated");
    const std::string_view line = take(end - at_);
    ++at_;
    return line;
  }

  const Value& at(Id id) const { return values_[id]; }
  void push(Value value) {
    if (values_.size() >= kMaxValues) fail("it holds more values than any state dict");
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<Id>(values_.size() - 1));
  }
  void push_number(Kind kind, int64_t number) { push({kind, number, {}, {}}); }
  void push_text(std::string_view text) { push({Kind::kString, 0, text, {}}); }
  /// Values below the last mark stay hidden: an instruction cannot reach under its mark.
  Id pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged();
    const Id id = stack_.back();
    stack_.pop_back();
    return id;
  }
  std::vector<Id> pop_to_mark() {
    if (marks_.empty()) damaged();
    std::vector<Id> ids(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return ids;
  }
  Value& top(Kind kind) {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged();
    Value& value = values_[stack_.back()];
    if (value.kind != kind) damaged();
    return value;
  }
  void push_tuple(int n) {
    std::vector<Id> ids(static_cast<size_t>(n));
    for (int i = n - 1; i >= 0; --i) ids[static_cast<size_t>(i)] = pop();
    push({Kind::kTuple, 0, {}, std::move(ids)});
  }
  void remember(uint64_t slot) {
    if (stack_.empty()) damaged();
    if (memo_.size() >= kMaxValues) fail("it remembers more values than any state dict");
    memo_[slot] = stack_.back();
  }
  void recall(uint64_t slot) {
    const auto it = memo_.find(slot);
    if (it == memo_.end()) damaged();
    stack_.push_back(it->second);
  }

  /// Runs one instruction; false after STOP. Numbers: Lib/pickle.py.
  bool step() {
    const unsigned char op = static_cast<unsigned char>(take(1)[0]);
    switch (op) {
      case 0x80:  // PROTO
        if (const uint64_t version = take_number(1); version > 5) fail("pickle protocol ", version, " is not known");
        return true;
      case 0x95:  // FRAME
        take(8);
        return true;
      case '.':  // STOP
        return false;
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return true;
      case 'N':  // NONE
        push_number(Kind::kNone, 0);
        return true;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push_number(Kind::kBool, op == 0x88);
        return true;
      case 'J':  // BININT
        push_number(Kind::kInt, static_cast<int32_t>(take_number(4)));
        return true;
      case 'K':  // BININT1
        push_number(Kind::kInt, static_cast<int64_t>(take_number(1)));
        return true;
      case 'M':  // BININT2
        push_number(Kind::kInt, static_cast<int64_t>(take_number(2)));
        return true;
      case 0x8a: {  // LONG1: two's complement of the given length
        const uint64_t length = take_number(1);
        if (length > 8) {  // no size, stride or count is that large
          take(length);
          push_number(Kind::kFloat, 0);
          return true;
        }
        const int bits = static_cast<int>(8 * length);
        uint64_t number = take_number(static_cast<int>(length));
        if (bits > 0 && bits < 64 && number >> (bits - 1)) number |= ~uint64_t{0} << bits;
        push_number(Kind::kInt, static_cast<int64_t>(number));
        return true;
      }
      case 'G':  // BINFLOAT: stands beside tensors; its value is of no use here
        take(8);
        push_number(Kind::kFloat, 0);
        return true;
      case 'X':  // BINUNICODE
        push_text(take(take_number(4)));
        return true;
      case 0x8c:  // SHORT_BINUNICODE
        push_text(take(take_number(1)));
        return true;
      case 0x8d:  // BINUNICODE8
        push_text(take(take_number(8)));
        return true;
      case 'c': {  // GLOBAL
        const std::string_view module = take_line(), name = take_line();
        push_global(module, name);
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const Value name = at(pop()), module = at(pop());
        if (name.kind != Kind::kString || module.kind != Kind::kString) damaged();
        push_global(module.text, name.text);
        return true;
      }
      case ')':  // EMPTY_TUPLE
        push_tuple(0);
        return true;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        push_tuple(op - 0x84);
        return true;
      case 't': {  // TUPLE
        std::vector<Id> ids = pop_to_mark();
        push({Kind::kTuple, 0, {}, std::move(ids)});
        return true;
      }
      case '}':  // EMPTY_DICT
        push_number(Kind::kDict, 0);
        return true;
      case ']':  // EMPTY_LIST
        push_number(Kind::kList, 0);
        return true;
      case 's': {  // SETITEM
        const Id value = pop(), key = pop();
        set_items({key, value});
        return true;
      }
      case 'u':  // SETITEMS
        set_items(pop_to_mark());
        return true;
      case 'a':  // APPEND
        append({pop()});
        return true;
      case 'e':  // APPENDS
        append(pop_to_mark());
        return true;
      case 'q':  // BINPUT
        remember(take_number(1));
        return true;
      case 'r':  // LONG_BINPUT
        remember(take_number(4));
        return true;
      case 0x94:  // MEMOIZE
        remember(memo_.size());
        return true;
      case 'h':  // BINGET
        recall(take_number(1));
        return true;
      case 'j':  // LONG_BINGET
        recall(take_number(4));
        return true;
      case 'Q':  // BINPERSID
        push_storage(at(pop()));
        return true;
      case 'R': {  // REDUCE
        const Id arguments = pop(), function = pop();
        call(at(function), at(arguments));
        return true;
      }
      case 'b':  // BUILD: a state dict carries its modules' versions as an attribute
        pop();
        top(Kind::kDict);
        return true;
      default:
        fail("the pickle uses instruction ", int{op}, " at byte ", at_ - 1,
             ", which a state dict does not need; refused, nothing was run");
    }
  }

  void set_items(const std::vector<Id>& ids) {
    if (ids.size() % 2 != 0) damaged();
    Value& dict = top(Kind::kDict);
    dict.items.insert(dict.items.end(), ids.begin(), ids.end());
  }
  void append(const std::vector<Id>& ids) {
    Value& list = top(Kind::kList);
    list.items.insert(list.items.end(), ids.begin(), ids.end());
  }

  void push_global(std::string_view module, std::string_view name) {
    if (module == "collections" && name == "OrderedDict") return push_number(Kind::kGlobal, kOrderedDict);
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") return push_number(Kind::kGlobal, kRebuildTensor);
    if (module == "torch._utils" && name == "_rebuild_parameter") return push_number(Kind::kGlobal, kRebuildParameter);
    if (module == "torch") {
      for (size_t i = 0; i < std::size(kStorages); ++i) {
        if (name == kStorages[i].name) return push_number(Kind::kGlobal, kFirstStorage + static_cast<int64_t>(i));
      }
    }
    fail("the pickle asks for ", in_quotes(std::string(module) + "." + std::string(name)),
         ", which a plain state dict does not need; refused, nothing was run");
  }

  /// ("storage", class, key, location, elements)
  void push_storage(const Value& id) {
    if (id.kind != Kind::kTuple || id.items.size() != 5) damaged();
    const Value &tag = at(id.items[0]), &type = at(id.items[1]), &key = at(id.items[2]), &numel = at(id.items[4]);
    if (tag.kind != Kind::kString || tag.text != "storage" || type.kind != Kind::kGlobal ||
        type.number < kFirstStorage || key.kind != Kind::kString || key.text.size() > kMaxKey ||
        numel.kind != Kind::kInt || numel.number < 0) {
      damaged();
    }
    push({Kind::kStorage, numel.number, key.text, {id.items[1]}});
  }

  void call(const Value& function, const Value& arguments) {
    if (function.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) damaged();
    const std::vector<Id>& a = arguments.items;
    switch (function.number) {
      case kOrderedDict:
        if (!a.empty()) damaged();
        return push_number(Kind::kDict, 0);
      case kRebuildTensor:
        return rebuild_tensor(a);
      case kRebuildParameter:  // (data, requires_grad, hooks)
        if (a.size() != 3 || at(a[0]).kind != Kind::kTensor) damaged();
        return stack_.push_back(a[0]);
      default:
        damaged();
    }
  }

  /// (storage, offset, size, stride, requires_grad, hooks[, metadata])
  void rebuild_tensor(const std::vector<Id>& a) {
    if (a.size() != 6 && a.size() != 7) damaged();
    if (a.size() == 7 && (at(a[6]).kind != Kind::kDict || !at(a[6]).items.empty()) && at(a[6]).kind != Kind::kNone) {
      fail("a tensor is stored negated or conjugated; save it with .resolve_neg().resolve_conj()");
    }
    const Value &storage = at(a[0]), &offset = at(a[1]);
    if (storage.kind != Kind::kStorage || offset.kind != Kind::kInt) damaged();
    PickledTensor t;
    t.dtype = find_file_dtype(kStorages[at(storage.items[0]).number - kFirstStorage].dtype);
    t.storage = storage.text;
    t.storage_numel = storage.number;
    t.offset = offset.number;
    t.shape = integers(at(a[2]));
    t.stride = integers(at(a[3]));
    if (t.shape.size() != t.stride.size()) damaged();
    if (!dense_bytes(t.shape, *t.dtype)) fail("a tensor of shape ", shape_str(t.shape), " is too large");
    // The last element's place. Offset, sizes and strides are each below 2^63, so the checks come before the sums.
    bool inside = t.offset >= 0 && t.offset <= t.storage_numel;
    if (inside && shape_numel(t.shape) > 0) {
      int64_t room = t.storage_numel - t.offset - 1;
      inside = room >= 0;
      for (size_t i = 0; i < t.shape.size() && inside; ++i) {
        const int64_t steps = t.shape[i] - 1, stride = t.stride[i];
        inside = stride >= 0 && (steps == 0 || stride <= room / steps);
        if (inside) room -= steps * stride;
      }
    }
    if (!inside) {
      fail("a tensor of shape ", shape_str(t.shape), " reaches outside its storage ", in_quotes(t.storage), " of ",
           t.storage_numel, " elements");
    }
    if (tensors_.size() >= kMaxTensors) fail("it makes more tensors than any state dict");
    tensors_.push_back(std::move(t));
    push_number(Kind::kTensor, static_cast<int64_t>(tensors_.size() - 1));
  }

  Shape integers(const Value& tuple) const {
    if (tuple.kind != Kind::kTuple) damaged();
    if (tuple.items.size() > kMaxRank) fail("a tensor of ", tuple.items.size(), " dimensions is more than are read");
    Shape numbers;
    for (const Id id : tuple.items) {
      if (at(id).kind != Kind::kInt) damaged();
      numbers.push_back(at(id).number);
    }
    return numbers;
  }

  const std::string_view pickle_;
  const std::string& where_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<PickledTensor> tensors_;
  std::vector<Id> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Id> memo_;
  std::vector<std::pair<std::string, PickledTensor>> result_;
  std::unordered_map<std::string, size_t> position_;
  size_t visited_ = 0;
  uint64_t name_bytes_ = 0;
};

}  // namespace

std::vector<std::pair<std::string, PickledTensor>> read_state_dict_pickle(std::string_view pickle,
                                                                          const std::string& where) {
  return Machine(pickle, where).run();
}

}  // namespace molt::io
