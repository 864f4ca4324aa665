// How long OpenMP's threads wait for each other before they sleep.
#pragma once

namespace molt::cli {

/// Starts this program anew with GOMP_SPINCOUNT set, unless the user has said how threads wait (OMP_WAIT_POLICY,
/// GOMP_SPINCOUNT). GNU OpenMP lets them spin for milliseconds, so that beside other programs on the same cores a step
/// takes several times as long (docs/benchmarks.md); sleeping at once (passive) makes decoding on an idle
/// machine half as fast. Between the two lies a count that costs neither. The runtime reads it before main().
void limit_spinning(char** argv);

}  // namespace molt::cli
