#include "engine/image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "absl/log/check.h"

namespace attendant::engine {
namespace {

constexpr int kChannels = Image::kChannels;

// Weights are whole numbers of 2^-22: a sum of bytes then has 30 bits, and 2 to overshoot.
constexpr int kWeightBits = 22;

double Sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double FilterSupport(Resampling filter) {
  switch (filter) {
    case Resampling::kNearest:
    case Resampling::kBox:
      return 0.5;
    case Resampling::kBilinear:
    case Resampling::kHamming:
      return 1;
    case Resampling::kBicubic:
      return 2;
    case Resampling::kLanczos:
      return 3;
  }
  return 0.5;
}

double FilterWeight(Resampling filter, double x) {
  switch (filter) {
    case Resampling::kNearest:
    case Resampling::kBox:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Resampling::kBilinear:
      return std::max(0.0, 1 - std::abs(x));
    case Resampling::kHamming:
      if (std::abs(x) >= 1) return 0;
      return Sinc(x) * (0.54 + 0.46 * std::cos(x * std::numbers::pi));
    case Resampling::kBicubic: {
      constexpr double kA = -0.5;
      x = std::abs(x);
      if (x < 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
      if (x < 2) return (((x - 5) * x + 8) * x - 4) * kA;
      return 0;
    }
    case Resampling::kLanczos:
      return x >= -3 && x < 3 ? Sinc(x) * Sinc(x / 3) : 0;
  }
  return 0;
}

// Along one axis: of which pixels each output pixel of a window is made.
struct Taps {
  struct Pixel {
    int32_t first = 0;  // of the input
    int32_t count = 0;
    int64_t weights = 0;  // index of its first weight
  };
  std::vector<Pixel> pixels;
  std::vector<int32_t> weights;  // times 2^kWeightBits

  int32_t begin() const { return pixels.front().first; }
  int32_t end() const {
    int32_t end = 0;
    for (const Pixel& pixel : pixels) end = std::max(end, pixel.first + pixel.count);
    return end;
  }
};

// Of an axis of `in_size` pixels that becomes one of `out_size`: output pixels [begin, begin +
// count).
Taps MakeTaps(int32_t in_size, int32_t out_size, int32_t begin, int32_t count, Resampling filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double stretch = std::max(scale, 1.0);
  const double support = FilterSupport(filter) * stretch;
  Taps taps;
  std::vector<double> weights;
  for (int32_t i = begin; i < begin + count; ++i) {
    const double center = (i + 0.5) * scale;
    if (filter == Resampling::kNearest) {
      const auto nearest = std::min(static_cast<int32_t>(center), in_size - 1);
      taps.pixels.push_back({nearest, 1, static_cast<int64_t>(taps.weights.size())});
      taps.weights.push_back(1 << kWeightBits);
      continue;
    }
    const int32_t first = std::max(0, static_cast<int32_t>(std::floor(center - support + 0.5)));
    const int32_t last =
        std::min(in_size, static_cast<int32_t>(std::floor(center + support + 0.5)));
    weights.clear();
    double sum = 0;
    for (int32_t at = first; at < last; ++at) {
      weights.push_back(FilterWeight(filter, (at - center + 0.5) * (1.0 / stretch)));
      sum += weights.back();
    }
    taps.pixels.push_back({first, last - first, static_cast<int64_t>(taps.weights.size())});
    for (double weight : weights) {
      if (sum != 0) weight /= sum;
      weight *= 1 << kWeightBits;
      taps.weights.push_back(static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5));
    }
  }
  return taps;
}

uint8_t ToByte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

// Rows [begin, end) of `image`, each resized to the taps' width.
Image ResampleRows(const Image& image, int32_t begin, int32_t end, const Taps& taps) {
  Image out({end - begin, static_cast<int32_t>(taps.pixels.size())});
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* row = image.row(y);
    uint8_t* to = out.row(y - begin);
    for (const Taps::Pixel& pixel : taps.pixels) {
      const uint8_t* from = row + int64_t{pixel.first} * kChannels;
      const int32_t* weights = taps.weights.data() + pixel.weights;
      int32_t sums[kChannels] = {kHalf, kHalf, kHalf};
      for (int32_t i = 0; i < pixel.count; ++i, from += kChannels) {
        for (int c = 0; c < kChannels; ++c) sums[c] += from[c] * weights[i];
      }
      for (int32_t sum : sums) *to++ = ToByte(sum);
    }
  }
  return out;
}

// `image` holds rows [begin, ...) of the input.
Image ResampleColumns(const Image& image, int32_t begin, const Taps& taps) {
  Image out({static_cast<int32_t>(taps.pixels.size()), image.size.width});
  std::vector<int32_t> sums(int64_t{image.size.width} * kChannels);
  for (int32_t y = 0; y < out.size.height; ++y) {
    const Taps::Pixel& pixel = taps.pixels[y];
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int32_t i = 0; i < pixel.count; ++i) {
      const uint8_t* from = image.row(pixel.first + i - begin);
      const int32_t weight = taps.weights[pixel.weights + i];
      for (size_t x = 0; x < sums.size(); ++x) sums[x] += from[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.row(y), ToByte);
  }
  return out;
}

}  // namespace

Image Resample(const Image& image, ImageSize size, Resampling filter, const ImageWindow& window) {
  DCHECK(window.top >= 0 && window.top + window.size.height <= size.height);
  DCHECK(window.left >= 0 && window.left + window.size.width <= size.width);
  // An axis that keeps its size is copied, whatever the filter.
  const Taps columns = MakeTaps(image.size.width, size.width, window.left, window.size.width,
                                image.size.width == size.width ? Resampling::kNearest : filter);
  const Taps rows = MakeTaps(image.size.height, size.height, window.top, window.size.height,
                             image.size.height == size.height ? Resampling::kNearest : filter);
  const int32_t begin = rows.begin();
  return ResampleColumns(ResampleRows(image, begin, rows.end(), columns), begin, rows);
}

}  // namespace attendant::engine
