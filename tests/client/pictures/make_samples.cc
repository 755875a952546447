// make_samples FOLDER PHOTOGRAPH: writes pages and pictures of made-up attention, for page_test.py
// and for eyes.
//
//   maps.html, maps.png     12 layers of 12 heads on 64 tokens of many scripts, some of them
//   hostile one.html, one.png       one map of 9 target tokens on 7 source tokens image.html,
//   image.png   2 layers of 3 heads of a ViT on 6 x 8 patches, over a photograph

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/pictures/attention_picture.h"
#include "client/pictures/html_page.h"
#include "client/pictures/png_image.h"
#include "client/pictures/text.h"

namespace attendant::client {
namespace {

// Known to page_test.py too. Nearest to `head % 3` tokens back, less sharp in later layers, with
// some weight on the first token.
double Affinity(int layer, int head, int query, int key, double stretch) {
  const double distance = std::abs(query * stretch - key - head % 3);
  return std::exp(-distance / (1 + layer % 4)) + (key == 0 ? 0.2 * (head % 4) : 0.0);
}

AttentionPicture MakePicture(int num_layers, int num_heads, std::vector<std::string> queries,
                             std::vector<std::string> keys) {
  AttentionPicture picture;
  picture.title = "sample <b>model</b>";
  picture.queries = std::move(queries);
  picture.keys = std::move(keys);
  for (int i = 0; i < num_layers; ++i) picture.layers.push_back(absl::StrCat("layer ", i));
  for (int i = 0; i < num_heads; ++i) picture.heads.push_back(absl::StrCat("head ", i));
  picture.subtitle =
      absl::StrCat("self-attention, ", num_layers, " layers of ", num_heads, " heads");
  const int num_queries = static_cast<int>(picture.queries.size());
  const int num_keys = static_cast<int>(picture.keys.size());
  const double stretch = static_cast<double>(num_keys) / num_queries;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (int head = 0; head < num_heads; ++head) {
      for (int query = 0; query < num_queries; ++query) {
        double sum = 0;
        for (int key = 0; key < num_keys; ++key) sum += Affinity(layer, head, query, key, stretch);
        for (int key = 0; key < num_keys; ++key) {
          picture.weights.push_back(
              static_cast<float>(Affinity(layer, head, query, key, stretch) / sum));
        }
      }
    }
  }
  return picture;
}

std::vector<std::string> ManyTokens() {
  const std::vector<std::string> some = {"[CLS]",
                                         "the",
                                         "quick",
                                         "##est",
                                         "Ġbrown",
                                         "▁fox",
                                         "好",
                                         "日本語",
                                         "مرحبا",
                                         "שלום",
                                         "😀",
                                         "naïve",
                                         "e\u0301",
                                         "नमस्ते",
                                         "한국어",
                                         "\u202eabc",
                                         "</script><script>window.hacked=1</script>",
                                         "<img src=x onerror=window.hacked=1>",
                                         "\"quoted\"",
                                         "'",
                                         "`${window.hacked=1}`",
                                         "a very long token that never seems to end at all",
                                         ".",
                                         "[SEP]"};
  std::vector<std::string> tokens;
  for (int i = 0; i < 64; ++i) tokens.push_back(Printable(some[i % some.size()]));
  return tokens;
}

absl::Status Write(const std::filesystem::path& path, const absl::StatusOr<std::string>& content) {
  if (!content.ok()) return content.status();
  std::ofstream(path, std::ios::binary) << *content;
  return absl::OkStatus();
}

absl::Status WriteAll(const std::filesystem::path& folder, const std::string& photograph) {
  AttentionPicture maps = MakePicture(12, 12, ManyTokens(), ManyTokens());
  AttentionPicture one =
      MakePicture(1, 1, {"Die", "▁Katze", "▁saß", "▁auf", "▁der", "▁Mat", "te", ".", "</s>"},
                  {"The", "▁cat", "▁sat", "▁on", "▁the", "▁mat", "."});
  one.layers = one.heads = {""};
  one.subtitle = "cross-attention";
  std::vector<std::string> patches = {"[CLS]"};
  for (int i = 0; i < 48; ++i) patches.push_back(absl::StrCat("patch ", i / 8, ",", i % 8));
  AttentionPicture image = MakePicture(2, 3, patches, patches);
  image.patches = {.image = photograph, .rows = 6, .columns = 8, .num_prefix_tokens = 1};
  for (const auto& [name, picture] :
       {std::pair("maps", &maps), std::pair("one", &one), std::pair("image", &image)}) {
    absl::Status status = Write(folder / absl::StrCat(name, ".html"), HtmlPage(*picture));
    if (!status.ok()) return status;
    status = Write(folder / absl::StrCat(name, ".png"), PngImage(*picture));
    if (!status.ok() && status.code() != absl::StatusCode::kUnimplemented) return status;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace attendant::client

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: make_samples FOLDER PHOTOGRAPH\n";
    return EXIT_FAILURE;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string photograph{std::istreambuf_iterator<char>(file), {}};
  const absl::Status status = attendant::client::WriteAll(argv[1], photograph);
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << status << "\n";
  return EXIT_FAILURE;
}
