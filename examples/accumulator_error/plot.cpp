#include "plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <sstream>

namespace accrue::examples {
namespace {

struct Look {
  const char *colour, *dashes;
};

// Colours that the colour-blind tell apart (Okabe and Ito); dashes tell lines of one family apart.
Look look_of(const std::string& accumulator) {
  static const std::map<std::string, Look> looks{
      {"bf16", {"#d55e00", ""}},
      {"bf16_stochastic", {"#d55e00", "7 4"}},
      {"kahan_bf16", {"#b8508f", ""}},
      {"kahan_bf16_carry", {"#b8508f", "7 4"}},
      {"f32", {"#0072b2", ""}},
      {"tree", {"#0072b2", "7 4"}},
      {"kahan", {"#009e73", ""}},
      {"neumaier", {"#009e73", "7 4"}},
      {"fixed_point", {"#000000", "2 4"}},
      {"f64", {"#000000", "10 5"}},
      {"median_of_means", {"#8a8a8a", "7 4"}},
      {"flora", {"#8a8a8a", ""}},
  };
  const auto found = looks.find(accumulator);
  return found == looks.end() ? Look{"#8a8a8a", "1 3"} : found->second;
}

constexpr double left = 84, width = 560, label_room = 176, top = 46, height = 330, gap = 84;
constexpr double line_height = 15;

/// Both axes of one panel.
struct Panel {
  double y0;            // its top
  double most_k;        // at the right end
  int lowest, highest;  // powers of ten

  double x(double k) const {
    return left + (most_k > 1 ? width * std::log2(k) / std::log2(most_k) : 0);
  }
  double y(double error) const {
    return y0 + height * (highest - std::log10(error)) / (highest - lowest);
  }
};

void text_at(std::ostream& to, double x, double y, const char* style, const std::string& words) {
  to << "<text x=\"" << x << "\" y=\"" << y << "\" " << style << ">" << words << "</text>\n";
}

void line(std::ostream& to, double x1, double y1, double x2, double y2, const char* style) {
  to << "<line x1=\"" << x1 << "\" y1=\"" << y1 << "\" x2=\"" << x2 << "\" y2=\"" << y2 << "\" "
     << style << "/>\n";
}

void axes(std::ostream& to, const Panel& panel, const std::string& title) {
  const double bottom = panel.y0 + height;
  text_at(to, left, panel.y0 - 12, "font-weight=\"bold\" font-size=\"15\"", title);
  for (int e = panel.lowest; e <= panel.highest; ++e) {
    const double y = panel.y(std::pow(10, e));
    line(to, left, y, left + width, y, "stroke=\"#e2e2e2\"");
    to << "<text x=\"" << left - 8 << "\" y=\"" << y + 4
       << "\" text-anchor=\"end\">10<tspan dy=\"-5\" font-size=\"10\">" << (e < 0 ? "−" : "")
       << std::abs(e) << "</tspan></text>\n";
  }
  for (double k = 1; k <= panel.most_k; k *= 2) {
    line(to, panel.x(k), panel.y0, panel.x(k), bottom, "stroke=\"#f0f0f0\"");
    text_at(to, panel.x(k), bottom + 18, "text-anchor=\"middle\"",
            std::to_string(static_cast<int64_t>(k)));
  }
  to << "<rect x=\"" << left << "\" y=\"" << panel.y0 << "\" width=\"" << width << "\" height=\""
     << height << "\" fill=\"none\" stroke=\"#999999\"/>\n";
  text_at(to, left + width / 2, bottom + 38, "text-anchor=\"middle\"",
          "micro-batches K in the cycle");
  std::ostringstream turned;
  turned << "text-anchor=\"middle\" transform=\"rotate(-90 22 " << panel.y0 + height / 2 << ")\"";
  text_at(to, 22, panel.y0 + height / 2, turned.str().c_str(), "relative RMS error of the sum");
}

struct Label {
  std::string name;
  double at, y;  // where its line ends; where there is room for it
};

/// Moves labels apart, as little as keeps them readable and inside the panel.
void spread(std::vector<Label>& labels, double highest_y) {
  std::sort(labels.begin(), labels.end(), [](auto& a, auto& b) { return a.at < b.at; });
  for (size_t i = 1; i < labels.size(); ++i)
    labels[i].y = std::max(labels[i].y, labels[i - 1].y + line_height);
  double limit = highest_y;
  for (auto label = labels.rbegin(); label != labels.rend(); ++label, limit -= line_height)
    label->y = std::min(label->y, limit);
}

/// What a browser shows beside the pointer, and a test holds against the page's table.
std::string summary(const std::string& name, const Measured& last) {
  char words[128];
  std::snprintf(words, sizeof words, "%s: %.1e at K = %lld", name.c_str(), last.error,
                static_cast<long long>(last.micro_batches));
  return words;
}

void curves(std::ostream& to, const Panel& panel, const std::vector<Measured>& rows) {
  std::map<std::string, std::vector<const Measured*>> by_name;
  for (const Measured& row : rows) by_name[row.accumulator].push_back(&row);
  std::vector<Label> labels;
  for (const auto& [name, points] : by_name) {
    const auto [colour, dashes] = look_of(name);
    std::ostringstream path;
    bool drawing = false;
    for (const Measured* point : points) {
      if (point->error > 0)  // an exact sum has no place on a logarithmic axis
        path << (drawing ? " L" : " M") << panel.x(static_cast<double>(point->micro_batches)) << ' '
             << panel.y(point->error);
      drawing = point->error > 0;
    }
    to << "<path d=\"" << path.str() << "\" fill=\"none\" stroke=\"" << colour
       << "\" stroke-width=\"2\" stroke-dasharray=\"" << dashes << "\"><title>"
       << summary(name, *points.back()) << "</title></path>\n";
    const double last = points.back()->error;
    const double y = last > 0 ? panel.y(last) : panel.y0 + height;
    labels.push_back({name, y, y});
  }
  spread(labels, panel.y0 + height);
  if (std::any_of(rows.begin(), rows.end(), [](const Measured& row) { return row.error == 0; }))
    text_at(to, left + 10, panel.y0 + height - 10, "fill=\"#767676\" font-size=\"12\"",
            "no line: the sum is exact");
  for (const Label& label : labels) {
    const auto [colour, dashes] = look_of(label.name);
    std::ostringstream style;
    style << "stroke=\"" << colour << "\" stroke-width=\"1\"";
    line(to, left + width, label.at, left + width + 16, label.y, style.str().c_str());
    std::ostringstream sample;
    sample << "stroke=\"" << colour << "\" stroke-width=\"2\" stroke-dasharray=\"" << dashes
           << "\"";
    line(to, left + width + 16, label.y, left + width + 44, label.y, sample.str().c_str());
    std::ostringstream fill;
    fill << "fill=\"" << colour << "\"";
    text_at(to, left + width + 49, label.y + 4, fill.str().c_str(), label.name);
  }
}

}  // namespace

std::string plot(const std::vector<Gradients>& gradients, const std::vector<Measured>& measured) {
  double lowest = 1, highest = 1, most_k = 1;
  for (const Measured& row : measured) {
    if (!(row.error > 0) || !std::isfinite(row.error)) continue;
    lowest = std::min(lowest, row.error);
    highest = std::max(highest, row.error);
    most_k = std::max(most_k, static_cast<double>(row.micro_batches));
  }
  const double all_width = left + width + label_room;
  const double all_height = top + static_cast<double>(gradients.size()) * (height + gap);
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << all_width << ' '
      << all_height << "\" width=\"" << all_width << "\" height=\"" << all_height
      << "\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"13\" "
         "fill=\"#222222\">\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  for (size_t g = 0; g < gradients.size(); ++g) {
    const Panel panel{top + static_cast<double>(g) * (height + gap), most_k,
                      static_cast<int>(std::floor(std::log10(lowest))),
                      static_cast<int>(std::ceil(std::log10(highest)))};
    std::vector<Measured> rows;
    std::copy_if(measured.begin(), measured.end(), std::back_inserter(rows),
                 [&](const Measured& row) { return row.gradients == gradients[g].name; });
    axes(svg, panel, gradients[g].title);
    curves(svg, panel, rows);
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace accrue::examples
