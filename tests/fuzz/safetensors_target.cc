// A safetensors file: header, offsets, every tensor's bytes.
#include "molt/io/safetensors.h"
#include "tests/fuzz/tensors.h"

MOLT_FUZZ_TARGET(safetensors) {
  static const molt::fuzz::MemoryFile file;
  molt::fuzz::read_all(molt::io::SafetensorsFile(file.write(bytes)));
}
