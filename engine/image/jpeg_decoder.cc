#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

// Each reads what the one before it defines.
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/image/decoders.h"
#include "engine/image/orientation.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kExifHeader("Exif\0\0", 6);
constexpr absl::string_view kXmpHeader("http://ns.adobe.com/xap/1.0/\0", 29);
constexpr int kApp1 = JPEG_APP0 + 1;

// A usual progressive file has ten; each is a pass over the whole image, however few bytes it has.
constexpr int kMaxScans = 100;

// Warnings after which libjpeg goes on with pixels that it made up.
bool IsDamage(int message_code) {
  switch (message_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
      return true;
    default:
      return false;
  }
}

// a * b / 255, rounded, for bytes.
int MultiplyBytes(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// libjpeg reports errors by a function that must not return: ours jumps. Each method that may be
// left so has its own setjmp, calls libjpeg, and has no local variables that need a destructor;
// what it makes are members.
class JpegReader {
 public:
  explicit JpegReader(absl::string_view file) : file_(file) {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = &OnError;
    errors_.emit_message = &OnMessage;
    errors_.output_message = [](j_common_ptr) {};
    jpeg_.client_data = this;
    progress_.progress_monitor = &OnProgress;
  }
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }
  JpegReader(const JpegReader&) = delete;

  absl::StatusOr<Image> Read(CheckImageSize check_size) {
    if (!ReadHeader()) return Damaged();
    RETURN_IF_ERROR(check_size(jpeg_.image_width, jpeg_.image_height));
    if (jpeg_.num_components != 1 && jpeg_.num_components != 3 && jpeg_.num_components != 4) {
      return absl::InvalidArgumentError(absl::StrCat("the JPEG file has ", jpeg_.num_components,
                                                     " components a pixel; 1, 3 and 4 are read"));
    }
    image_ =
        Image({static_cast<int32_t>(jpeg_.image_height), static_cast<int32_t>(jpeg_.image_width)});
    row_.resize(size_t{jpeg_.image_width} * jpeg_.num_components);
    const int orientation = Orientation();
    if (!ReadRows()) return Damaged();
    jpeg_abort_decompress(&jpeg_);  // frees its memory
    return Reorient(std::move(image_), orientation);
  }

 private:
  static JpegReader& Self(j_common_ptr jpeg) {
    return *static_cast<JpegReader*>(jpeg->client_data);
  }

  static void OnError(j_common_ptr jpeg) { std::longjmp(Self(jpeg).jump_, 1); }
  static void OnMessage(j_common_ptr jpeg, int level) {
    if (level < 0 && IsDamage(jpeg->err->msg_code)) OnError(jpeg);
  }
  static void OnProgress(j_common_ptr jpeg) {
    JpegReader& self = Self(jpeg);
    if (self.jpeg_.input_scan_number <= kMaxScans) return;
    self.has_too_many_scans_ = true;
    OnError(jpeg);
  }

  bool ReadHeader() {
    if (setjmp(jump_)) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(file_.data()), file_.size());
    jpeg_save_markers(&jpeg_, kApp1, 0xffff);
    jpeg_read_header(&jpeg_, TRUE);
    jpeg_.progress = &progress_;
    return true;
  }

  bool ReadRows() {
    if (setjmp(jump_)) return false;
    jpeg_.out_color_space = jpeg_.num_components == 1   ? JCS_GRAYSCALE
                            : jpeg_.num_components == 3 ? JCS_RGB
                                                        : JCS_CMYK;
    jpeg_start_decompress(&jpeg_);
    while (jpeg_.output_scanline < jpeg_.output_height) {
      uint8_t* const out = image_.row(static_cast<int32_t>(jpeg_.output_scanline));
      JSAMPROW row = jpeg_.num_components == 3 ? out : row_.data();
      jpeg_read_scanlines(&jpeg_, &row, 1);
      if (jpeg_.num_components == 1) SpreadGrey(out);
      if (jpeg_.num_components == 4) MixInks(out);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  void SpreadGrey(uint8_t* rgb) const {
    for (const uint8_t grey : row_) rgb = std::fill_n(rgb, Image::kChannels, grey);
  }

  // Of cyan, magenta, yellow and black, each stored as 255 minus its amount.
  void MixInks(uint8_t* rgb) const {
    for (size_t i = 0; i < row_.size(); i += 4) {
      const int light = row_[i + 3];
      for (int c = 0; c < Image::kChannels; ++c) {
        *rgb++ = static_cast<uint8_t>(std::max(0, light - MultiplyBytes(255 - row_[i + c], light)));
      }
    }
  }

  int Orientation() const {
    std::optional<int> orientation;
    for (jpeg_saved_marker_ptr marker = jpeg_.marker_list; marker != nullptr;
         marker = marker->next) {
      absl::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (!absl::ConsumePrefix(&data, kExifHeader)) continue;
      orientation = OrientationOfExif(data);
      break;
    }
    for (jpeg_saved_marker_ptr marker = jpeg_.marker_list; marker != nullptr && !orientation;
         marker = marker->next) {
      absl::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (absl::ConsumePrefix(&data, kXmpHeader)) orientation = OrientationOfXmp(data);
    }
    return orientation.value_or(1);
  }

  absl::Status Damaged() {
    if (has_too_many_scans_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the JPEG file has more than ", kMaxScans, " scans"));
    }
    if (errors_.msg_code == JERR_OUT_OF_MEMORY) {
      return absl::ResourceExhaustedError("out of memory for a JPEG file");
    }
    if (errors_.msg_code == JWRN_JPEG_EOF || errors_.msg_code == JERR_INPUT_EOF) {
      return absl::InvalidArgumentError("the JPEG file is cut off");
    }
    char message[JMSG_LENGTH_MAX];
    errors_.format_message(reinterpret_cast<j_common_ptr>(&jpeg_), message);
    return absl::InvalidArgumentError(absl::StrCat("the JPEG file is damaged: ", message));
  }

  const absl::string_view file_;
  jpeg_decompress_struct jpeg_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_;
  Image image_;
  std::vector<uint8_t> row_;  // where it is not RGB
  bool has_too_many_scans_ = false;
};

}  // namespace

absl::StatusOr<Image> DecodeJpeg(absl::string_view file, CheckImageSize check_size) {
  return JpegReader(file).Read(check_size);
}

}  // namespace attendant::engine
