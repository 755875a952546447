#include "client/pictures/html_page.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/pictures/color_ramp.h"
#include "client/pictures/page_template.h"
#include "client/pictures/text.h"

namespace attendant::client {
namespace {

std::string JsonStrings(const std::vector<std::string>& texts) {
  return absl::StrCat("[",
                      absl::StrJoin(texts, ",",
                                    [](std::string* out, const std::string& text) {
                                      out->append(JsonString(text));
                                    }),
                      "]");
}

std::string JsonRamp(const ColorRamp& ramp) {
  return absl::StrCat("[",
                      absl::StrJoin(ramp, ",",
                                    [](std::string* out, const Rgb& color) {
                                      absl::StrAppend(out, "[", color.red, ",", color.green, ",",
                                                      color.blue, "]");
                                    }),
                      "]");
}

std::string ImageUrl(const std::string& image) {
  const absl::string_view type = absl::StartsWith(image, "\x89PNG") ? "image/png" : "image/jpeg";
  return absl::StrCat("data:", type, ";base64,", absl::Base64Escape(image));
}

std::string JsonPatches(const AttentionPicture::Patches& patches) {
  return absl::StrCat("{\"rows\":", patches.rows, ",\"columns\":", patches.columns,
                      ",\"prefix\":", patches.num_prefix_tokens, ",\"region\":[0,0,1,1]",
                      ",\"image\":", JsonString(ImageUrl(patches.image)), "}");
}

// 16 bits for each weight, little-endian, of which 65535 is `largest`; in base64.
std::string PackedWeights(const std::vector<float>& weights, float largest) {
  std::string bytes(2 * weights.size(), '\0');
  for (size_t i = 0; i < weights.size(); ++i) {
    const float part = std::clamp(weights[i] / largest, 0.0f, 1.0f);
    const auto value = static_cast<uint16_t>(std::isnan(part) ? 0 : std::lround(part * 65535));
    bytes[2 * i] = static_cast<char>(value & 0xff);
    bytes[2 * i + 1] = static_cast<char>(value >> 8);
  }
  return absl::Base64Escape(bytes);
}

std::string EscapeHtml(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

}  // namespace

absl::StatusOr<std::string> HtmlPage(const AttentionPicture& picture) {
  const int64_t image_bytes =
      picture.patches ? static_cast<int64_t>(picture.patches->image.size()) : 0;
  const int64_t num_weights = static_cast<int64_t>(picture.weights.size());
  if (num_weights > kMaxPageBytes || (2 * num_weights + image_bytes) / 3 * 4 > kMaxPageBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a page of ", picture.layers.size() * picture.heads.size(), " maps of ",
        picture.queries.size(), " × ", picture.keys.size(), " would have ",
        (2 * num_weights + image_bytes) / 3 * 4 >> 20, " MiB, and at most ", kMaxPageBytes >> 20,
        " MiB are drawn: --layers, --heads, --query_range, --key_range and --reduction choose "
        "fewer"));
  }
  const float largest = picture.Largest();
  const std::string data = absl::StrCat(
      "{\"title\":", JsonString(picture.title), ",\"subtitle\":", JsonString(picture.subtitle),
      ",\"queries\":", JsonStrings(picture.queries), ",\"keys\":", JsonStrings(picture.keys),
      ",\"layers\":", JsonStrings(picture.layers), ",\"heads\":", JsonStrings(picture.heads),
      ",\"largest\":", largest, ",\"same\":", picture.queries == picture.keys ? "true" : "false",
      ",\"ramps\":{\"light\":", JsonRamp(kLightRamp), ",\"dark\":", JsonRamp(kDarkRamp),
      ",\"heat\":", JsonRamp(kHeatRamp),
      "},\"patches\":", picture.patches ? JsonPatches(*picture.patches) : "null", "}");
  // Pieces between the marks, so that what is put in is never itself looked through for marks.
  std::string page;
  for (absl::string_view rest = kPageTemplate; !rest.empty();) {
    const size_t mark = std::min(rest.find('@'), rest.size());
    absl::StrAppend(&page, rest.substr(0, mark));
    rest.remove_prefix(mark);
    if (absl::ConsumePrefix(&rest, "@TITLE@")) {
      absl::StrAppend(&page, EscapeHtml(absl::StrCat(picture.title, ": ", picture.subtitle)));
    } else if (absl::ConsumePrefix(&rest, "@DATA@")) {
      absl::StrAppend(&page, data);
    } else if (absl::ConsumePrefix(&rest, "@WEIGHTS@")) {
      absl::StrAppend(&page, PackedWeights(picture.weights, largest));
    } else if (!rest.empty()) {
      page += rest.front();
      rest.remove_prefix(1);
    }
  }
  return page;
}

}  // namespace attendant::client
