#include "client/pictures/png_image.h"

#include <cairo.h>
#include <pango/pangocairo.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/pictures/color_ramp.h"
#include "client/pictures/text.h"
#include "engine/image/decode_image.h"
#include "engine/image/resample.h"

namespace attendant::client {
namespace {

// Lengths are in units of this many pixels, so that a unit is about what it is on a screen, and
// sharp.
constexpr double kScale = 2;

constexpr double kMargin = 24;
constexpr double kTitleSize = 19, kSubtitleSize = 12.5, kNameSize = 12, kLabelSize = 11;
constexpr double kHeaderHeight = 58;
constexpr double kNameHeight = 20;
constexpr double kGap = 16;
constexpr double kSlant = 55 * std::numbers::pi / 180;
constexpr int kMaxLabelWidth = 18, kMaxLabelWidthOfMany = 12;  // in characters
constexpr double kBarWidth = 14, kBarRoom = 84;

constexpr Rgb kPaper = {255, 255, 255};
constexpr Rgb kInk = {28, 36, 48};
constexpr Rgb kQuiet = {102, 112, 128};
constexpr Rgb kLine = {208, 213, 220};

template <auto Free>
struct Freeing {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Surface = std::unique_ptr<cairo_surface_t, Freeing<cairo_surface_destroy>>;
using Context = std::unique_ptr<cairo_t, Freeing<cairo_destroy>>;
using TextLayout = std::unique_ptr<PangoLayout, Freeing<g_object_unref>>;

// A rectangle of colours, each a pixel, as cairo stores it.
class Pixels {
 public:
  Pixels(int width, int height)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_ARGB32, width, height)) {
    cairo_surface_flush(surface_.get());
  }

  // `alpha` in [0, 1].
  void Set(int x, int y, Rgb color, double alpha = 1) {
    const auto part = [alpha](uint8_t value) {
      return static_cast<uint32_t>(std::lround(value * alpha));
    };
    uint8_t* row = cairo_image_surface_get_data(surface_.get()) +
                   static_cast<ptrdiff_t>(y) * cairo_image_surface_get_stride(surface_.get());
    reinterpret_cast<uint32_t*>(row)[x] = (static_cast<uint32_t>(std::lround(255 * alpha)) << 24) |
                                          (part(color.red) << 16) | (part(color.green) << 8) |
                                          part(color.blue);
  }

  cairo_surface_t* surface() const {
    cairo_surface_mark_dirty(surface_.get());
    return surface_.get();
  }

 private:
  Surface surface_;
};

enum class Align { kLeft, kCenter, kRight };

// Draws on a surface, in units.
class Canvas {
 public:
  Canvas(double width, double height)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24,
                                            static_cast<int>(std::ceil(width * kScale)),
                                            static_cast<int>(std::ceil(height * kScale)))),
        context_(cairo_create(surface_.get())) {
    cairo_scale(context_.get(), kScale, kScale);
    SetColor(kPaper);
    cairo_paint(context_.get());
  }

  cairo_t* context() const { return context_.get(); }

  void SetColor(Rgb color, double alpha = 1) const {
    cairo_set_source_rgba(context_.get(), color.red / 255.0, color.green / 255.0,
                          color.blue / 255.0, alpha);
  }

  // The width of `text`, of characters `size` high.
  double WidthOfText(const std::string& text, double size, bool is_bold = false) const {
    return Extents(Layout(text, size, is_bold)).width;
  }

  // Text whose left end, middle or right end is at x, and whose middle is at y; turned about that
  // point by `angle`.
  void DrawText(const std::string& text, double x, double y, double size, Rgb color, Align align,
                double angle = 0, bool is_bold = false) const {
    const TextLayout layout = Layout(text, size, is_bold);
    const PangoRectangle extents = Extents(layout);
    SetColor(color);
    cairo_save(context_.get());
    cairo_translate(context_.get(), x, y);
    cairo_rotate(context_.get(), angle);
    const double left = align == Align::kLeft     ? 0
                        : align == Align::kCenter ? -extents.width / 2.0
                                                  : -extents.width;
    cairo_move_to(context_.get(), left, -extents.height / 2.0);
    pango_cairo_show_layout(context_.get(), layout.get());
    cairo_restore(context_.get());
  }

  // `pixels`, [rows, columns], stretched over a rectangle.
  void DrawPixels(const Pixels& pixels, double x, double y, double width, double height,
                  cairo_filter_t filter) const {
    cairo_surface_t* surface = pixels.surface();
    cairo_save(context_.get());
    cairo_rectangle(context_.get(), x, y, width, height);
    cairo_clip(context_.get());
    cairo_translate(context_.get(), x, y);
    cairo_scale(context_.get(), width / cairo_image_surface_get_width(surface),
                height / cairo_image_surface_get_height(surface));
    cairo_set_source_surface(context_.get(), surface, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(context_.get()), filter);
    cairo_pattern_set_extend(cairo_get_source(context_.get()), CAIRO_EXTEND_PAD);
    cairo_paint(context_.get());
    cairo_restore(context_.get());
  }

  void DrawFrame(double x, double y, double width, double height, Rgb color) const {
    SetColor(color);
    cairo_set_line_width(context_.get(), 0.5);
    cairo_rectangle(context_.get(), x - 0.25, y - 0.25, width + 0.5, height + 0.5);
    cairo_stroke(context_.get());
  }

  void DrawLine(double x0, double y0, double x1, double y1, Rgb color) const {
    SetColor(color);
    cairo_set_line_width(context_.get(), 0.5);
    cairo_move_to(context_.get(), x0, y0);
    cairo_line_to(context_.get(), x1, y1);
    cairo_stroke(context_.get());
  }

  absl::StatusOr<std::string> Png() const {
    const cairo_status_t drawn = cairo_status(context_.get());
    std::string bytes;
    const cairo_status_t written = cairo_surface_write_to_png_stream(
        surface_.get(),
        [](void* to, const unsigned char* data, unsigned int length) {
          static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(data), length);
          return CAIRO_STATUS_SUCCESS;
        },
        &bytes);
    for (const cairo_status_t status : {drawn, written}) {
      if (status != CAIRO_STATUS_SUCCESS) {
        return absl::InternalError(
            absl::StrCat("the picture cannot be drawn: ", cairo_status_to_string(status)));
      }
    }
    return bytes;
  }

 private:
  TextLayout Layout(const std::string& text, double size, bool is_bold) const {
    TextLayout layout(pango_cairo_create_layout(context_.get()));
    PangoFontDescription* font = pango_font_description_from_string("Sans");
    pango_font_description_set_absolute_size(font, size * PANGO_SCALE);
    if (is_bold) pango_font_description_set_weight(font, PANGO_WEIGHT_SEMIBOLD);
    pango_layout_set_font_description(layout.get(), font);
    pango_font_description_free(font);
    pango_layout_set_single_paragraph_mode(layout.get(), TRUE);
    // A token that reads from the right is still one label among others.
    pango_layout_set_auto_dir(layout.get(), FALSE);
    pango_layout_set_text(layout.get(), text.data(), static_cast<int>(text.size()));
    return layout;
  }

  static PangoRectangle Extents(const TextLayout& layout) {
    PangoRectangle extents;
    pango_layout_get_pixel_extents(layout.get(), nullptr, &extents);
    return extents;
  }

  Surface surface_;
  Context context_;
};

std::string InPercentOf(double value) { return absl::StrFormat("%.3g %%", 100 * value); }

// The maps of a picture, side by side.
class Panels {
 public:
  // Maps, or if there is a photograph, the patches over it.
  Panels(const AttentionPicture& picture, const engine::Image* photograph) : picture_(picture) {
    const size_t num_layers = picture.layers.size(), num_heads = picture.heads.size();
    count_ = num_layers * num_heads;
    columns_ = num_layers > 1 && num_heads > 1
                   ? num_heads
                   : static_cast<size_t>(std::ceil(std::sqrt(static_cast<double>(count_))));
    rows_ = (count_ + columns_ - 1) / columns_;
    photograph == nullptr ? MeasureMap() : MeasurePhotograph(*photograph);
    largest_ = photograph == nullptr ? picture.Largest() : LargestOfPatches();
  }

  double width() const {
    return 2 * kMargin + left_ + static_cast<double>(columns_) * (width_ + kGap) - kGap + kBarRoom;
  }
  double height() const {
    return kMargin + kHeaderHeight + static_cast<double>(rows_) * (height_ + kNameHeight + kGap) -
           kGap + bottom_ + kMargin;
  }

  void Draw(const Canvas& canvas) const {
    canvas.DrawText(picture_.title, kMargin, kMargin + 8, kTitleSize, kInk, Align::kLeft, 0, true);
    canvas.DrawText(picture_.subtitle, kMargin, kMargin + 32, kSubtitleSize, kQuiet, Align::kLeft);
    for (size_t i = 0; i < count_; ++i) DrawPanel(canvas, i);
    DrawBar(canvas);
  }

 private:
  std::string Label(const std::string& name) const {
    return Shortened(name, count_ > 1 ? kMaxLabelWidthOfMany : kMaxLabelWidth);
  }

  double WidestLabel(const std::vector<std::string>& names) const {
    const Canvas ruler(1, 1);
    double widest = 0;
    for (size_t i = 0; i < names.size(); i += every_)
      widest = std::max(widest, ruler.WidthOfText(Label(names[i]), kLabelSize));
    return widest;
  }

  void MeasureMap() {
    const double num_keys = static_cast<double>(picture_.keys.size());
    const double num_queries = static_cast<double>(picture_.queries.size());
    // Among many maps, those of a few tokens still have room for every name.
    const double named = std::min((kLabelSize + 1) * std::max(num_keys, num_queries), 200.0);
    const double target =
        count_ == 1 ? 760 : std::clamp(1500.0 / static_cast<double>(columns_), named, 440.0);
    cell_ = std::clamp(target / std::max(num_keys, num_queries), 0.5, 32.0);
    if (cell_ > 3) cell_ = std::floor(cell_);
    width_ = cell_ * num_keys;
    height_ = cell_ * num_queries;
    // Where cells are lower than letters, every so many tokens has its name.
    every_ = static_cast<size_t>(std::max(1.0, std::ceil((kLabelSize + 1) / cell_)));
    left_ = WidestLabel(picture_.queries) + 10;
    const double widest = WidestLabel(picture_.keys);
    bottom_ = widest * std::sin(kSlant) + 14;
    // The first key's name reaches to the left of it.
    left_ = std::max(left_, widest * std::cos(kSlant) - cell_);
    width_ = std::max(width_, 70.0);
  }

  // The image with half of its colour, so that the heat stands out.
  void DimPhotograph(const engine::Image& image) {
    backdrop_.emplace(image.size.width, image.size.height);
    for (int row = 0; row < image.size.height; ++row) {
      for (int column = 0; column < image.size.width; ++column) {
        const uint8_t* rgb = image.row(row) + ptrdiff_t{column} * engine::Image::kChannels;
        const double grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        const auto dim = [grey](uint8_t value) {
          return static_cast<uint8_t>(0.62 * (0.4 * value + 0.6 * grey));
        };
        backdrop_->Set(column, row, {dim(rgb[0]), dim(rgb[1]), dim(rgb[2])});
      }
    }
  }

  void MeasurePhotograph(const engine::Image& image) {
    const double target =
        count_ == 1 ? 560 : std::clamp(1500.0 / static_cast<double>(columns_), 120.0, 300.0);
    const double larger = std::max(image.size.width, image.size.height);
    width_ = target * image.size.width / larger;
    height_ = target * image.size.height / larger;
    const engine::ImageSize drawn = {static_cast<int32_t>(std::ceil(height_ * kScale)),
                                     static_cast<int32_t>(std::ceil(width_ * kScale))};
    // Cairo takes no side above 32,767 pixels, and shrinks less well.
    larger > kScale* target ? DimPhotograph(engine::Resample(
                                  image, drawn, engine::Resampling::kBilinear, {.size = drawn}))
                            : DimPhotograph(image);
  }

  // What [CLS], or the query that was asked for, attends to among the patches.
  absl::Span<const float> PatchWeights(size_t layer, size_t head) const {
    return picture_.Map(layer, head)
        .subspan(0, picture_.keys.size())
        .subspan(picture_.patches->num_prefix_tokens);
  }

  float LargestOfPatches() const {
    float largest = 0;
    for (size_t i = 0; i < count_; ++i) {
      for (const float weight : PatchWeights(i / picture_.heads.size(), i % picture_.heads.size()))
        largest = std::max(largest, weight);
    }
    return largest > 0 ? largest : 1;
  }

  void DrawPanel(const Canvas& canvas, size_t i) const {
    const size_t layer = i / picture_.heads.size(), head = i % picture_.heads.size();
    const size_t row = i / columns_;
    const double x = kMargin + left_ + static_cast<double>(i % columns_) * (width_ + kGap);
    const double y = kMargin + kHeaderHeight + kNameHeight +
                     static_cast<double>(row) * (height_ + kNameHeight + kGap);
    canvas.DrawText(picture_.NameOf(layer, head), x, y - kNameHeight / 2 - 1, kNameSize, kInk,
                    Align::kLeft);
    if (backdrop_) {
      DrawPatches(canvas, layer, head, x, y);
      return;
    }
    DrawMap(canvas, picture_.Map(layer, head), x, y);
    if (i % columns_ == 0) LabelQueries(canvas, x, y);
    if (i + columns_ >= count_) LabelKeys(canvas, x, y);
  }

  void DrawMap(const Canvas& canvas, absl::Span<const float> map, double x, double y) const {
    const int num_keys = static_cast<int>(picture_.keys.size());
    const int num_queries = static_cast<int>(picture_.queries.size());
    Pixels pixels(num_keys, num_queries);
    for (int query = 0; query < num_queries; ++query) {
      for (int key = 0; key < num_keys; ++key)
        pixels.Set(key, query, ColorOf(kLightRamp, LevelOf(map[query * num_keys + key], largest_)));
    }
    const double width = cell_ * num_keys;
    canvas.DrawPixels(pixels, x, y, width, height_,
                      cell_ * kScale >= 1 ? CAIRO_FILTER_NEAREST : CAIRO_FILTER_GOOD);
    if (cell_ >= 8) {
      for (int key = 1; key < num_keys; ++key)
        canvas.DrawLine(x + key * cell_, y, x + key * cell_, y + height_, kPaper);
      for (int query = 1; query < num_queries; ++query)
        canvas.DrawLine(x, y + query * cell_, x + width, y + query * cell_, kPaper);
    }
    canvas.DrawFrame(x, y, width, height_, kLine);
    if (cell_ < 24) return;
    for (int i = 0; i < num_queries * num_keys; ++i) {
      if (map[i] < 0.005f) continue;
      const Rgb color = ColorOf(kLightRamp, LevelOf(map[i], largest_));
      const auto query = i / num_keys;
      canvas.DrawText(absl::StrFormat("%.0f", 100 * map[i]), x + (i % num_keys + 0.5) * cell_,
                      y + (static_cast<double>(query) + 0.5) * cell_, 9.5,
                      IsBright(color) ? kInk : kPaper, Align::kCenter);
    }
  }

  void LabelQueries(const Canvas& canvas, double x, double y) const {
    for (size_t i = 0; i < picture_.queries.size(); i += every_) {
      canvas.DrawText(Label(picture_.queries[i]), x - 6, y + (static_cast<double>(i) + 0.5) * cell_,
                      kLabelSize, kInk, Align::kRight);
    }
  }

  void LabelKeys(const Canvas& canvas, double x, double y) const {
    for (size_t i = 0; i < picture_.keys.size(); i += every_) {
      canvas.DrawText(Label(picture_.keys[i]), x + (static_cast<double>(i) + 0.5) * cell_ + 3,
                      y + height_ + 7, kLabelSize, kInk, Align::kRight, -kSlant);
    }
  }

  void DrawPatches(const Canvas& canvas, size_t layer, size_t head, double x, double y) const {
    canvas.DrawPixels(*backdrop_, x, y, width_, height_, CAIRO_FILTER_GOOD);
    const AttentionPicture::Patches& patches = *picture_.patches;
    const absl::Span<const float> weights = PatchWeights(layer, head);
    Pixels heat(patches.columns, patches.rows);
    for (int i = 0; i < patches.rows * patches.columns; ++i) {
      const double level = LevelOf(weights[i], largest_);
      heat.Set(i % patches.columns, i / patches.columns, ColorOf(kHeatRamp, level), 0.85 * level);
    }
    canvas.DrawPixels(heat, x, y, width_, height_, CAIRO_FILTER_NEAREST);
    canvas.DrawFrame(x, y, width_, height_, kLine);
  }

  void DrawBar(const Canvas& canvas) const {
    static constexpr int kSteps = 256, kTicks = 4;
    const double x = width() - kMargin - kBarRoom + 20;
    const double y = kMargin + kHeaderHeight + kNameHeight;
    const double height = std::clamp(height_, 90.0, 260.0);
    Pixels pixels(1, kSteps);
    for (int i = 0; i < kSteps; ++i) {
      const double level = 1 - i / (kSteps - 1.0);
      pixels.Set(0, i, ColorOf(backdrop_ ? kHeatRamp : kLightRamp, level),
                 backdrop_ ? 0.15 + 0.85 * level : 1);
    }
    canvas.DrawPixels(pixels, x, y, kBarWidth, height, CAIRO_FILTER_GOOD);
    canvas.DrawFrame(x, y, kBarWidth, height, kLine);
    for (int i = 0; i <= kTicks; ++i) {
      const double level = static_cast<double>(i) / kTicks;
      const double tick_y = y + (1 - level) * height;
      canvas.DrawLine(x + kBarWidth, tick_y, x + kBarWidth + 4, tick_y, kQuiet);
      // The inverse of LevelOf.
      canvas.DrawText(InPercentOf(level * level * largest_), x + kBarWidth + 8, tick_y, 10.5,
                      kQuiet, Align::kLeft);
    }
  }

  const AttentionPicture& picture_;
  std::optional<Pixels> backdrop_;  // of the photograph
  size_t count_ = 0, columns_ = 1, rows_ = 1, every_ = 1;
  double cell_ = 0;                // of a map
  double width_ = 0, height_ = 0;  // of a panel
  double left_ = 0, bottom_ = 0;   // room for the labels
  float largest_ = 1;
};

}  // namespace

absl::StatusOr<std::string> PngImage(const AttentionPicture& picture) {
  std::optional<engine::Image> photograph;
  if (picture.patches) {
    const AttentionPicture::Patches& patches = *picture.patches;
    if (patches.rows < 1 || patches.columns < 1 || patches.num_prefix_tokens < 0 ||
        static_cast<int64_t>(picture.keys.size()) !=
            patches.num_prefix_tokens + int64_t{patches.rows} * patches.columns) {
      return absl::InvalidArgumentError(
          "attention over an image needs all of its patches: --key_range leaves some out");
    }
    // As the server decodes it, turned as its EXIF says. Its size is one that the server took.
    auto image =
        engine::DecodeImage(patches.image, int64_t{engine::kMaxImageSide} * engine::kMaxImageSide);
    if (!image.ok()) return image.status();
    photograph = *std::move(image);
  }
  const Panels panels(picture, photograph ? &*photograph : nullptr);
  const double num_pixels = panels.width() * panels.height() * kScale * kScale;
  // Cairo's own limit is a side of 32,767 pixels.
  if (num_pixels > static_cast<double>(kMaxPngPixels) ||
      std::max(panels.width(), panels.height()) * kScale > 32000) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a picture of %d maps of %d × %d would have %.0f million pixels, and at most %d million "
        "are "
        "drawn: --layers, --heads, --query_range, --key_range and --reduction choose fewer",
        picture.layers.size() * picture.heads.size(), picture.queries.size(), picture.keys.size(),
        num_pixels / 1e6, kMaxPngPixels / 1'000'000));
  }
  const Canvas canvas(panels.width(), panels.height());
  panels.Draw(canvas);
  return canvas.Png();
}

}  // namespace attendant::client
