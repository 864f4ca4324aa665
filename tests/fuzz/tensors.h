// What the targets of tensor files share.
#pragma once

#include "molt/io/tensor_file.h"
#include "tests/fuzz/target.h"

namespace molt::fuzz {

/// Touches every byte of every tensor; one that is refused keeps nobody from the next.
inline void read_all(const io::TensorFile& file) {
  volatile unsigned char sum = 0;
  for (const std::string& name : file.names()) {
    try {
      file.info(name);
      const Tensor t = file.tensor(name);
      const auto* bytes = static_cast<const unsigned char*>(t.raw());
      for (size_t i = 0; i < t.bytes(); ++i) sum = static_cast<unsigned char>(sum + bytes[i]);
    } catch (const UsageError&) {
    }
  }
}

}  // namespace molt::fuzz
