// A GGUF file: metadata, table of tensors, every tensor's bytes.
#include "molt/io/gguf.h"
#include "tests/fuzz/tensors.h"

MOLT_FUZZ_TARGET(gguf) {
  static const molt::fuzz::MemoryFile memory;
  const molt::io::GgufFile file(memory.write(bytes));
  for (const auto& [key, value] : file.metadata()) (void)value.str();
  molt::fuzz::read_all(file);
}
