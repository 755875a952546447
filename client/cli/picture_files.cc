#include "client/cli/picture_files.h"

#include <fstream>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/pictures/html_page.h"
#include "client/pictures/png_image.h"

ABSL_FLAG(std::string, html, "", "Write the maps to this file, a page for a browser");
ABSL_FLAG(std::string, png, "", "Draw the maps into this file");

namespace attendant::client {
namespace {

absl::Status WriteFile(const std::string& path, const absl::StatusOr<std::string>& content) {
  if (!content.ok()) return content.status();
  std::ofstream file(path, std::ios::binary);
  file << *content;
  file.close();
  if (file) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be written"));
}

}  // namespace

bool WritesPictures() {
  return !absl::GetFlag(FLAGS_html).empty() || !absl::GetFlag(FLAGS_png).empty();
}

absl::Status WritePictures(const AttentionPicture& picture) {
  if (const std::string path = absl::GetFlag(FLAGS_html); !path.empty()) {
    const absl::Status status = WriteFile(path, HtmlPage(picture));
    if (!status.ok()) return status;
  }
  if (const std::string path = absl::GetFlag(FLAGS_png); !path.empty())
    return WriteFile(path, PngImage(picture));
  return absl::OkStatus();
}

}  // namespace attendant::client
