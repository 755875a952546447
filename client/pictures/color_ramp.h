#ifndef ATTENDANT_CLIENT_PICTURES_COLOR_RAMP_H_
#define ATTENDANT_CLIENT_PICTURES_COLOR_RAMP_H_

#include <array>
#include <cstdint>

namespace attendant::client {

struct Rgb {
  uint8_t red, green, blue;
};

// Colours from the least to the most, at equal distances; between them they are mixed.
using ColorRamp = std::array<Rgb, 6>;

// From white paper to dark blue.
inline constexpr ColorRamp kLightRamp = {{{248, 249, 251},
                                          {209, 226, 239},
                                          {138, 187, 219},
                                          {61, 137, 190},
                                          {22, 82, 146},
                                          {8, 32, 82}}};

// From a dark screen to bright yellow.
inline constexpr ColorRamp kDarkRamp = {
    {{24, 28, 36}, {27, 52, 92}, {32, 90, 143}, {50, 145, 175}, {128, 202, 186}, {250, 244, 200}}};

// Over a photograph.
inline constexpr ColorRamp kHeatRamp = {{{60, 20, 110},
                                         {140, 30, 120},
                                         {210, 60, 80},
                                         {240, 120, 45},
                                         {250, 190, 60},
                                         {255, 245, 160}}};

// The colour of `level`, which is held within [0, 1].
Rgb ColorOf(const ColorRamp& ramp, double level);

// Whether black text reads better on it than white.
bool IsBright(Rgb color);

// The part of the ramp that a weight takes, where `largest`, above 0, takes it all. Softmax over
// many keys is rarely near 1: the square root shows more of it.
double LevelOf(double weight, double largest);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_COLOR_RAMP_H_
