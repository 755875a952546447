#ifndef ATTENDANT_ENGINE_KERNELS_PREFETCH_H_
#define ATTENDANT_ENGINE_KERNELS_PREFETCH_H_

namespace attendant::engine {

// Whether the machine by itself fetches a stream of weights longer than a few pages so well that
// asking for it ahead only holds it up, by a tenth to a fifth, as does a second stream beside it:
// AMD's (seen on Zen 4). Intel's foresees nothing beyond a page of 4 KiB.
inline bool ForeseesStreams() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_PREFETCH_H_
