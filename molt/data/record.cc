#include "molt/data/record.h"

#include <algorithm>
#include <utility>

#include "molt/base/error.h"

namespace molt::data {
namespace {

constexpr size_t kNamesShown = 20;

/// The entry of `value` under one path part: a key of an object, or an index of a list.
const Json* step(const Json& value, const std::string& part) {
  if (value.is_object()) {
    const auto it = value.find(part);
    return it == value.end() ? nullptr : &*it;
  }
  if (value.is_array() && !part.empty() && part.size() < 10 &&
      part.find_first_not_of("0123456789") == std::string::npos) {
    const size_t index = std::stoul(part);
    return index < value.size() ? &value[index] : nullptr;
  }
  return nullptr;
}

std::string to_text(const Json& value, int depth, const std::string& where, const std::string& name) {
  switch (value.type()) {
    case Json::value_t::string:
      return value.get<std::string>();
    case Json::value_t::boolean:
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
    case Json::value_t::number_float:
      return value.dump();
    case Json::value_t::array: {
      if (depth == 2) break;
      std::string joined;
      for (size_t i = 0; i < value.size(); ++i) {
        if (i) joined += depth == 0 ? " | " : " : ";
        joined += to_text(value[i], depth + 1, where, name);
      }
      return joined;
    }
    default:
      break;
  }
  usage_error(where, ": expected text in field \"", name, "\", found ",
              value.is_array() ? "lists nested more than twice" : value.type_name(),
              value.is_object() ? str(" (read an entry of it as {", name, ".key})") : "");
}

}  // namespace

Record Record::row(std::string where, std::shared_ptr<const std::vector<std::string>> columns,
                   std::vector<std::string> cells) {
  Record r;
  r.where_ = std::move(where), r.columns_ = std::move(columns), r.cells_ = std::move(cells);
  return r;
}

Record Record::object(std::string where, Json value) {
  Record r;
  r.where_ = std::move(where), r.object_ = std::move(value), r.is_object_ = true;
  return r;
}

int64_t Record::cell(const std::string& name) const {
  const auto it = std::find(columns_->begin(), columns_->end(), name);
  if (it != columns_->end()) {
    if (std::find(it + 1, columns_->end(), name) != columns_->end())
      usage_error(where_, ": two columns are called \"", name, "\"; name it by its number, from {0}");
    return it - columns_->begin();
  }
  if (!name.empty() && name.size() < 10 && name.find_first_not_of("0123456789") == std::string::npos) {
    const int64_t index = std::stol(name);
    if (index < static_cast<int64_t>(cells_.size())) return index;
  }
  return -1;
}

const Json* Record::find(const std::string& name) const {
  if (!is_object_) return nullptr;
  if (const Json* direct = step(object_, name)) return direct;
  const Json* value = &object_;
  for (size_t at = 0; value && at <= name.size();) {
    const size_t dot = std::min(name.find('.', at), name.size());
    value = step(*value, name.substr(at, dot - at));
    at = dot + 1;
  }
  return value;
}

bool Record::has(const std::string& name) const { return is_object_ ? find(name) != nullptr : cell(name) >= 0; }

std::string Record::text(const std::string& name) const {
  if (is_object_) {
    if (const Json* value = find(name)) return to_text(*value, 0, where_, name);
  } else if (const int64_t index = cell(name); index >= 0) {
    return cells_[static_cast<size_t>(index)];
  }
  usage_error(where_, ": expected a field \"", name, "\", found ", names());
}

std::string Record::names() const {
  std::vector<std::string> all;
  if (is_object_)
    for (const auto& item : object_.items()) all.push_back(item.key());
  else if (columns_->empty())
    return str(cells_.size(), " columns without names, {0} to {", cells_.size() - 1, "}");
  else
    all = *columns_;
  const size_t count = all.size();
  if (count > kNamesShown) all.resize(kNamesShown);
  return count == 0 ? "none" : str(all, count > kNamesShown ? " and more" : "");
}

}  // namespace molt::data
