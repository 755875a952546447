#include "client/pictures/color_ramp.h"

#include <algorithm>
#include <cmath>

namespace attendant::client {

Rgb ColorOf(const ColorRamp& ramp, double level) {
  const double place = std::clamp(level, 0.0, 1.0) * static_cast<double>(ramp.size() - 1);
  const size_t low = std::min(static_cast<size_t>(place), ramp.size() - 2);
  const double part = place - static_cast<double>(low);
  const auto mix = [part](uint8_t a, uint8_t b) {
    return static_cast<uint8_t>(std::lround(a + (b - a) * part));
  };
  return {mix(ramp[low].red, ramp[low + 1].red), mix(ramp[low].green, ramp[low + 1].green),
          mix(ramp[low].blue, ramp[low + 1].blue)};
}

bool IsBright(Rgb color) {
  return 0.299 * color.red + 0.587 * color.green + 0.114 * color.blue > 140;
}

double LevelOf(double weight, double largest) {
  if (!(weight > 0)) return 0;  // Nor is what is not a number.
  return std::sqrt(std::min(weight / largest, 1.0));
}

}  // namespace attendant::client
