// A file of torch.save: the zip directory, the pickle in it, the storages it names.
#include "molt/io/torch_zip.h"
#include "tests/fuzz/tensors.h"

MOLT_FUZZ_TARGET(torch_zip) {
  static const molt::fuzz::MemoryFile file;
  molt::fuzz::read_all(molt::io::TorchZipFile(file.write(bytes)));
}
