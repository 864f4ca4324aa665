// The pickle of a state dict without the zip file around it.
#include "molt/io/state_dict_pickle.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(pickle) { molt::io::read_state_dict_pickle(bytes, "pickle"); }
