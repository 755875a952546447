#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/image/decoders.h"
#include "engine/image/orientation.h"

namespace attendant::engine {
namespace {

// Text, profiles and calibrations: nothing that is shown depends on them, and some are compressed.
constexpr png_byte kSkippedChunks[] =
    "cHRM\0gAMA\0hIST\0iCCP\0iTXt\0pCAL\0sBIT\0sCAL\0sPLT\0tEXt\0tIME\0zTXt";
constexpr int kNumSkippedChunks = sizeof(kSkippedChunks) / 5;
constexpr png_alloc_size_t kMaxChunkBytes = 1 << 20;

// libpng reports errors by longjmp. Each method that may be left so has its own setjmp, calls
// libpng, and has no local variables that need a destructor; what it makes are members.
class PngReader {
 public:
  explicit PngReader(absl::string_view file) : rest_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &OnError, &OnWarning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;

  absl::StatusOr<Image> Read(CheckImageSize check_size) {
    if (info_ == nullptr) return absl::ResourceExhaustedError("out of memory");
    if (!ReadHeader()) return Damaged();
    RETURN_IF_ERROR(
        check_size(png_get_image_width(png_, info_), png_get_image_height(png_, info_)));
    image_ = Image({static_cast<int32_t>(png_get_image_height(png_, info_)),
                    static_cast<int32_t>(png_get_image_width(png_, info_))});
    is_grey16_ = png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY &&
                 png_get_bit_depth(png_, info_) == 16;
    if (!SetTransformations()) return Damaged();
    if (is_grey16_) {
      // Rows of two bytes a pixel; of an interlaced file all of them.
      grey_row_bytes_ = int64_t{image_.size.width} * 2;
      grey_.resize(grey_row_bytes_ * (num_passes_ > 1 ? image_.size.height : 1));
    }
    if (!ReadRows() || !ReadRest()) return Damaged();
    return Reorient(std::move(image_), Orientation());
  }

 private:
  static void OnError(png_structp png, png_const_charp message) {
    auto* reader = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(reader->message_, message, sizeof(reader->message_) - 1);
    png_longjmp(png, 1);
  }
  static void OnWarning(png_structp, png_const_charp) {}

  static void ReadBytes(png_structp png, png_bytep out, size_t size) {
    auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
    if (size > reader->rest_.size()) {
      reader->is_cut_off_ = true;
      png_error(png, "");
    }
    std::memcpy(out, reader->rest_.data(), size);
    reader->rest_.remove_prefix(size);
  }

  bool ReadHeader() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, this, &ReadBytes);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours say more when they refuse
    png_set_chunk_malloc_max(png_, kMaxChunkBytes);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kSkippedChunks, kNumSkippedChunks);
    png_read_info(png_, info_);
    return true;
  }

  bool SetTransformations() {
    if (setjmp(png_jmpbuf(png_))) return false;
    const int color_type = png_get_color_type(png_, info_);
    if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (color_type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png_);
    if (!is_grey16_) {
      png_set_strip_16(png_);
      if ((color_type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
      png_set_strip_alpha(png_);
    }
    num_passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const png_size_t expected = int64_t{image_.size.width} * (is_grey16_ ? 2 : Image::kChannels);
    if (png_get_rowbytes(png_, info_) != expected) png_error(png_, "unexpected row size");
    return true;
  }

  bool ReadRows() {
    if (setjmp(png_jmpbuf(png_))) return false;
    for (int pass = 0; pass < num_passes_; ++pass) {
      for (int32_t y = 0; y < image_.size.height; ++y) {
        if (!is_grey16_) {
          png_read_row(png_, image_.row(y), nullptr);
          continue;
        }
        uint8_t* grey = grey_.data() + (num_passes_ > 1 ? y * grey_row_bytes_ : 0);
        png_read_row(png_, grey, nullptr);
        if (pass == num_passes_ - 1) SpreadGrey(grey, image_.row(y));
      }
    }
    return true;
  }

  // Big-endian values, cut off at 255.
  void SpreadGrey(const uint8_t* grey, uint8_t* rgb) const {
    for (int32_t x = 0; x < image_.size.width; ++x, grey += 2, rgb += Image::kChannels) {
      std::fill_n(rgb, Image::kChannels, grey[0] != 0 ? 255 : grey[1]);
    }
  }

  bool ReadRest() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_end(png_, info_);
    return true;
  }

  int Orientation() {
    png_uint_32 size = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(png_, info_, &size, &exif) == 0) return 1;
    return OrientationOfExif({reinterpret_cast<const char*>(exif), size}).value_or(1);
  }

  absl::Status Damaged() const {
    if (is_cut_off_) return absl::InvalidArgumentError("the PNG file is cut off");
    return absl::InvalidArgumentError(absl::StrCat("the PNG file is damaged: ", message_));
  }

  absl::string_view rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  Image image_;
  bool is_grey16_ = false;
  int num_passes_ = 1;
  int64_t grey_row_bytes_ = 0;
  std::vector<uint8_t> grey_;
  bool is_cut_off_ = false;
  char message_[128] = {};
};

}  // namespace

absl::StatusOr<Image> DecodePng(absl::string_view file, CheckImageSize check_size) {
  return PngReader(file).Read(check_size);
}

}  // namespace attendant::engine
