// The inner loops of the evaluator, for speed alone: each does what a NumPy twin beside it does, bit for bit.
//
// Plain functions on arrays, called through ctypes by native.py, which owns all memory and checks all types.
// They hold no state and no lock, so Python may run several at a time. Nothing here judges an input: what is
// not plain JSON is handed back to the reader that says what is wrong. Whatever needs memory says if there is
// none.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr std::int64_t NO_MEMORY = -2;

using std::int32_t;
using std::int64_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

// ---------------------------------------------------------------- JSON

struct Plain {  // letters of a string that stand for themselves
    bool letter[256] = {};
    constexpr Plain() {
        for (int i = 32; i < 127; ++i) letter[i] = i != '"' && i != '\\';
    }
    constexpr bool operator[](unsigned char i) const {
        return letter[i];
    }
};
constexpr Plain plain;

// value = all / 10^behind, behind from 0 to 19, to the nearest double, as from_chars has it; false where no
// compiler's integers are wide enough.
bool quotient(uint64_t all, int64_t behind, double& value) {
#ifdef __SIZEOF_INT128__
    static constexpr auto tens = [] {
        std::array<uint64_t, 20> power{1};
        for (int i = 1; i < 20; ++i) power[i] = 10 * power[i - 1];
        return power;
    }();
    if (!all) return value = 0, true;
    const int shift = __builtin_clzll(all), other = __builtin_clzll(tens[behind]);
    const uint64_t below = tens[behind] << other;
    const auto above = static_cast<unsigned __int128>(all << shift) << 63;
    uint64_t ratio = static_cast<uint64_t>(above / below);  // of 63 or 64 bits, of which a double keeps 53
    ratio |= static_cast<uint64_t>(above) != ratio * below;  // the last says whether anything is left over
    const uint64_t scale = static_cast<uint64_t>(1023 + other - shift - 63) << 52;
    std::memcpy(&value, &scale, sizeof value);
    value *= static_cast<double>(ratio);
    return true;
#else
    return false;
#endif
}

struct Reader {
    const char *at, *end;

    void space() {
        while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) ++at;
    }
    bool take(char wanted) {
        space();
        if (at >= end || *at != wanted) return false;
        ++at;
        return true;
    }
    bool peek(char wanted) {
        space();
        return at < end && *at == wanted;
    }
    bool whole(int64_t& value) {
        space();
        const bool negative = at < end && *at == '-';
        if (negative) ++at;
        const char* first = at;
        value = 0;
        while (at < end && *at >= '0' && *at <= '9') {
            if (at - first == 18) return false;
            value = 10 * value + (*at++ - '0');
        }
        if (at == first || (at - first > 1 && *first == '0')) return false;
        if (at < end && (*at == '.' || *at == 'e' || *at == 'E')) return false;
        if (negative) value = -value;
        return true;
    }
    bool digits(uint64_t& value) {
        const char* first = at;
        while (at < end && *at >= '0' && *at <= '9') value = 10 * value + (*at++ - '0');
        return at > first;
    }
    // JSON's grammar, which is stricter than from_chars. Its digits as one number, how many of them are behind
    // the point, and whether that says it all.
    bool numeral(uint64_t& all, int64_t& behind, bool& simple) {
        if (at < end && *at == '-') ++at;
        const char* first = at;
        if (!digits(all) || (at - first > 1 && *first == '0')) return false;
        int64_t n = *first == '0' ? 0 : at - first;
        if (at < end && *at == '.') {
            first = ++at;
            if (!digits(all)) return false;
            n += behind = at - first;
        }
        simple = n < 20;
        if (at < end && (*at == 'e' || *at == 'E')) {
            simple = false;
            ++at;
            if (at < end && (*at == '+' || *at == '-')) ++at;
            uint64_t power = 0;
            return digits(power);
        }
        return true;
    }
    bool number(double& value) {
        space();
        const char* first = at;
        uint64_t all = 0;
        int64_t behind = 0;
        bool simple;
        if (!numeral(all, behind, simple)) return false;
        if (simple && quotient(all, behind, value)) return value = *first == '-' ? -value : value, true;
        const auto done = std::from_chars(first, at, value);
        return done.ec == std::errc() && done.ptr == at;
    }
    bool key(const char*& name, int64_t& length) {  // a plain string
        if (!take('"')) return false;
        name = at;
        while (at < end && *at != '"') {
            if (*at == '\\' || static_cast<unsigned char>(*at) < 32 || static_cast<unsigned char>(*at) > 126)
                return false;
            ++at;
        }
        if (at >= end) return false;
        length = at++ - name;
        return take(':');
    }
    bool text(char* out, int64_t& length) {  // out may be null; at most as many bytes as it has here
        if (!take('"')) return false;
        length = 0;
        for (;;) {
            const char* first = at;
            while (at < end && plain[static_cast<unsigned char>(*at)]) ++at;
            if (out) std::memcpy(out + length, first, at - first);
            length += at - first;
            if (at >= end) return false;
            if (*at == '"') return ++at, true;
            if (*at != '\\' || ++at >= end || (*at != '\\' && *at != '/' && *at != '"')) return false;
            if (out) out[length] = *at;
            ++length;
            ++at;
        }
    }
    bool word(const char* wanted) {
        const auto length = static_cast<int64_t>(std::strlen(wanted));
        if (end - at < length || std::memcmp(at, wanted, length) != 0) return false;
        at += length;
        return true;
    }
    bool skip(int depth = 0) {
        space();
        if (at >= end || depth > 32) return false;
        int64_t length;
        double value;
        const char* name;
        switch (*at) {
            case '"':
                return text(nullptr, length);
            case 't':
                return word("true");
            case 'f':
                return word("false");
            case 'n':
                return word("null");
            case '[':
                ++at;
                if (take(']')) return true;
                do {
                    if (!skip(depth + 1)) return false;
                } while (take(','));
                return take(']');
            case '{':
                ++at;
                if (take('}')) return true;
                do {
                    if (!key(name, length) || !skip(depth + 1)) return false;
                } while (take(','));
                return take('}');
            default:
                return number(value);
        }
    }
};

bool is(const char* name, int64_t length, const char* wanted) {
    return length == static_cast<int64_t>(std::strlen(wanted)) && std::memcmp(name, wanted, length) == 0;
}

enum Field { IMAGE = 1, CATEGORY = 2, VALUE = 4, SHAPE = 8, ALL = 15, EXTRA = 16 };

bool box(Reader& json, double* out) {
    if (!json.take('[')) return false;
    for (int i = 0; i < 4; ++i)
        if ((i && !json.take(',')) || !json.number(out[i])) return false;
    return json.take(']');
}

bool rle(Reader& json, int64_t* size, char* counts, int64_t& length) {
    int seen = 0;
    if (!json.take('{')) return false;
    do {
        const char* name;
        int64_t letters;
        if (!json.key(name, letters)) return false;
        if (is(name, letters, "size")) {
            if (seen & 1 || !json.take('[') || !json.whole(size[0]) || !json.take(',') ||
                !json.whole(size[1]) || !json.take(']'))
                return false;
            seen |= 1;
        } else if (is(name, letters, "counts")) {
            if (seen & 2 || !json.peek('"') || !json.text(counts, length)) return false;
            seen |= 2;
        } else if (!json.skip()) {
            return false;
        }
    } while (json.take(','));
    return seen == 3 && json.take('}');
}

// ---------------------------------------------------------------- run lengths

// The pixels of all runs of a mask and of its object; -1 for a total if it is none, as run_sums says.
void sums(const uint8_t* byte, int64_t length, int64_t& total, int64_t& area) {
    int64_t last = 0, before = 0, number = 0, r = 0;
    int shift = 0;
    total = area = 0;
    for (int64_t i = 0; i < length; ++i) {
        const unsigned digit = static_cast<uint8_t>(byte[i] - 48);
        if (digit >= 64 || shift >= 35) return void(total = -1);
        number |= static_cast<int64_t>(digit & 31) << shift;
        shift += 5;
        if (digit & 32) continue;
        if (digit & 16) number -= static_cast<int64_t>(1) << shift;
        if (r > 2) number += before;
        if (number < 0) return void(total = -1);
        total += number;
        if (r++ & 1) area += number;
        before = last;
        last = number;
        number = 0;
        shift = 0;
    }
    if (shift) total = -1;
}

// The pixels of a mask that fills its image, as intervals [begin, end) down the columns, and a box around
// them.
struct Pixels {
    std::vector<uint32_t> edges;  // begin, end, begin, end, ... of runs that are not empty
    int64_t area = 0;
    uint32_t left = 0, right = 0, top = 0, bottom = 0;  // of the box, all inside

    void read(const uint8_t* byte, int64_t length, uint32_t height) {
        if (static_cast<int64_t>(edges.size()) < length + 2) edges.resize(length + 2);
        uint32_t *edge = edges.data(), *const first = edge;
        int64_t last = 0, before = 0, number = 0;  // the last two runs
        uint32_t place = 0;
        int shift = 0;
        int64_t r = 0;
        area = 0;
        top = height;
        bottom = 0;
        for (int64_t i = 0; i < length; ++i) {
            const unsigned digit = byte[i] - 48u;
            number |= static_cast<int64_t>(digit & 31) << shift;
            shift += 5;
            if (digit & 32) continue;
            if (digit & 16) number -= static_cast<int64_t>(1) << shift;
            if (r > 2) number += before;
            const uint32_t next = place + static_cast<uint32_t>(number);
            if (r % 2 == 1 && number) {
                if (edge > first && edge[-1] == place) {
                    edge[-1] = next;
                } else {
                    *edge++ = place;
                    *edge++ = next;
                }
                area += number;
                const uint32_t row = place % height;
                if (row + (next - place) <= height) {
                    top = std::min(top, row);
                    bottom = std::max(bottom, row + (next - place) - 1);
                } else {
                    top = 0;
                    bottom = height - 1;
                }
            }
            place = next;
            before = last;
            last = number;
            number = 0;
            shift = 0;
            ++r;
        }
        n = edge - first;
        if (!n) return;
        left = first[0] / height;
        right = (first[n - 1] - 1) / height;
    }
    int64_t n = 0;  // edges
};

double overlap(const Pixels& a, const Pixels& b) {
    if (!a.n || !b.n || a.right < b.left || b.right < a.left || a.bottom < b.top || b.bottom < a.top)
        return 0;
    int64_t shared = 0;
    const uint32_t *i = a.edges.data(), *j = b.edges.data(), *const a_end = i + a.n, *const b_end = j + b.n;
    while (i < a_end && j < b_end) {
        const uint32_t low = std::max(i[0], j[0]), high = std::min(i[1], j[1]);
        if (low < high) shared += high - low;
        if (i[1] < j[1])
            i += 2;
        else
            j += 2;
    }
    if (shared == 0) return 0;
    return static_cast<double>(shared) / static_cast<double>(a.area + b.area - shared);
}

double overlap(const double* a, const double* b) {  // box_iou, operation by operation
    const double width = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]);
    const double height = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]);
    if (!(width > 0) || !(height > 0)) return 0;
    const double shared = width * height;
    if (!(shared > 0)) return 0;
    const double joint = a[2] * a[3] + b[2] * b[3];
    return shared / (joint - shared);
}

// ---------------------------------------------------------------- sorting

struct Item {
    uint64_t key;  // the higher the score, the lower
    int64_t index;
};

constexpr int64_t FEW = 200;  // items that are not worth counting

// By key, of equals as they come; spare is as long.
void sort(Item* items, Item* spare, int64_t n) {
    if (n < FEW)
        return std::stable_sort(items, items + n, [](const Item& a, const Item& b) { return a.key < b.key; });
    int64_t counts[8][256] = {};
    for (int64_t i = 0; i < n; ++i)
        for (int byte = 0; byte < 8; ++byte) ++counts[byte][items[i].key >> 8 * byte & 255];
    Item* to = spare;
    for (int byte = 0; byte < 8; ++byte) {
        auto& next = counts[byte];
        if (next[items[0].key >> 8 * byte & 255] == n) continue;
        for (int64_t sum = 0, *count = next; count < next + 256; ++count) sum += std::exchange(*count, sum);
        for (int64_t i = 0; i < n; ++i) to[next[items[i].key >> 8 * byte & 255]++] = items[i];
        std::swap(items, to);
    }
    if (to != spare) std::copy(items, items + n, to);
}

}  // namespace

// Entries of a list: of a part that ends where the next begins, or of the last, which ends before the
// bracket. Returns how many there are, or -1 if anything is not plain; then another reader says what.
template <class Entry>
static int64_t entries(Reader json, bool last, int64_t capacity, Entry entry) {
    for (int64_t n = 0;;) {
        if (n >= capacity || !json.take('{')) return -1;
        int seen = 0;
        do {
            const char* name;
            int64_t letters;
            int field = 0;
            if (!json.key(name, letters) || !entry(json, n, name, letters, field) || seen & field) return -1;
            seen |= field;
        } while (json.take(','));
        if ((seen & ALL) != ALL || !json.take('}')) return -1;
        ++n;
        const bool more = json.take(',');
        json.space();
        if (json.at == json.end) return more != last ? n : -1;
        if (!more) return -1;
    }
}

// What native.py asks for before all else: another number wherever a function takes other arguments.
EXPORT int64_t fasa_interface() {
    return 2;
}

EXPORT int64_t fasa_results(const char* text, int64_t size, int64_t last, int64_t capacity, int64_t masks,
                            int64_t* image, int64_t* category, double* score, double* boxes, int64_t* sizes,
                            int64_t* start, int64_t* length, char* blob) {
    int64_t written = 0;
    const auto entry = [&](Reader& json, int64_t n, const char* name, int64_t letters, int& field) {
        if (is(name, letters, "image_id")) return field = IMAGE, json.whole(image[n]);
        if (is(name, letters, "category_id")) return field = CATEGORY, json.whole(category[n]);
        if (is(name, letters, "score")) return field = VALUE, json.number(score[n]);
        if (!masks && is(name, letters, "bbox")) return field = SHAPE, box(json, boxes + 4 * n);
        if (masks && is(name, letters, "segmentation")) {
            field = SHAPE;
            start[n] = written;
            if (!rle(json, sizes + 2 * n, blob + written, length[n])) return false;
            written += length[n];
            return true;
        }
        return json.skip();
    };
    return entries(Reader{text, text + size}, last, capacity, entry);
}

// The same of annotations; of masks, outlines alone. totals: how many numbers and outlines there are.
EXPORT int64_t fasa_objects(const char* text, int64_t size, int64_t last, int64_t capacity, int64_t masks,
                            int64_t* image, int64_t* category, double* area, uint8_t* ignore, double* boxes,
                            int64_t* parts, int64_t* length, double* points, int64_t* totals) {
    int64_t n_points = 0, n_parts = 0;
    std::fill(ignore, ignore + capacity, 0);
    const auto outlines = [&](Reader& json, int64_t n) {
        if (!json.take('[')) return false;
        parts[n] = n_parts;
        do {
            const int64_t first = n_points;
            if (!json.take('[')) return false;
            do {
                if (!json.number(points[n_points++])) return false;
            } while (json.take(','));
            if (!json.take(']')) return false;
            length[n_parts++] = n_points - first;
        } while (json.take(','));
        parts[n] = n_parts - parts[n];
        return json.take(']');
    };
    const auto entry = [&](Reader& json, int64_t n, const char* name, int64_t letters, int& field) {
        if (is(name, letters, "image_id")) return field = IMAGE, json.whole(image[n]);
        if (is(name, letters, "category_id")) return field = CATEGORY, json.whole(category[n]);
        if (is(name, letters, "area")) return field = VALUE, json.number(area[n]);
        if (!masks && is(name, letters, "bbox")) return field = SHAPE, box(json, boxes + 4 * n);
        if (masks && is(name, letters, "segmentation")) return field = SHAPE, outlines(json, n);
        int64_t value;
        if (is(name, letters, "ignore"))
            return field = EXTRA, json.whole(value) && (ignore[n] = value != 0, true);
        return json.skip();
    };
    const int64_t n = entries(Reader{text, text + size}, last, capacity, entry);
    totals[0] = n_points;
    totals[1] = n_parts;
    return n;
}

// Where the value of a member of the whole file begins and ends; 0 if it is not there once. Judges no JSON.
EXPORT int64_t fasa_member(const char* text, int64_t size, const char* wanted, int64_t* span) {
    int64_t depth = 0, found = 0;
    const char* end = text + size;
    bool inside = false;
    for (const char* at = text; at < end; ++at) {
        switch (*at) {
            case '"': {
                const char* first = ++at;
                while (at < end && *at != '"') at += *at == '\\' ? 2 : 1;
                if (at >= end) return 0;
                if (depth != 1 || !is(first, at - first, wanted)) break;
                Reader json{at + 1, end};
                if (!json.take(':')) break;  // a value
                json.space();
                span[0] = json.at - text;
                inside = true;
                ++found;
                at = json.at - 1;
                break;
            }
            case '[':
            case '{':
                ++depth;
                break;
            case ']':
            case '}':
                --depth;
                if (inside && depth == 1) {
                    span[1] = at + 1 - text;
                    inside = false;
                }
                break;
            default:
                break;
        }
    }
    return found == 1 && !inside && depth == 0;
}

// run_sums
EXPORT int64_t fasa_run_sums(const uint8_t* data, const int64_t* start, const int64_t* length, int64_t n,
                             int64_t* total, int64_t* area) {
    for (int64_t i = 0; i < n; ++i) sums(data + start[i], length[i], total[i], area[i]);
    return 0;
}

// IoU of each of n detections with objects first[i], first[i] + 1, ... of `which`; (P,) one after the other.
EXPORT int64_t fasa_box_overlaps(int64_t n, const int64_t* first, const int64_t* found, const int64_t* which,
                                 const double* mine, const double* theirs, double* iou) {
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = first[i]; j < first[i] + found[i]; ++j)
            *iou++ = overlap(mine + 4 * i, theirs + 4 * which[j]);
    return 0;
}

EXPORT int64_t fasa_mask_overlaps(int64_t n, const int64_t* first, const int64_t* found, const int64_t* which,
                                  const int64_t* height, const uint8_t* data, const int64_t* start,
                                  const int64_t* length, const uint8_t* object_data,
                                  const int64_t* object_start, const int64_t* object_length,
                                  double* iou) try {
    std::vector<Pixels> objects;
    Pixels mine;
    int64_t held = -1, held_n = -1;  // the objects decoded last: those of an image serve many detections
    for (int64_t i = 0; i < n; ++i) {
        if (!found[i]) continue;
        if (first[i] != held || found[i] != held_n) {
            if (static_cast<int64_t>(objects.size()) < found[i]) objects.resize(found[i]);
            for (int64_t j = 0; j < found[i]; ++j) {
                const int64_t g = which[first[i] + j];
                objects[j].read(object_data + object_start[g], object_length[g], height[i]);
            }
            held = first[i];
            held_n = found[i];
        }
        mine.read(data + start[i], length[i], height[i]);
        for (int64_t j = 0; j < found[i]; ++j) *iou++ = overlap(mine, objects[j]);
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// greedy for every area range: detections by cell, best first; bits of `hit` and `void` are thresholds.
EXPORT int64_t fasa_match(int64_t n, const int64_t* first, const int64_t* found, const double* iou,
                          const uint8_t* ignored, int64_t areas, int64_t n_thresholds, const double* least,
                          uint16_t* hit, uint16_t* vain) try {
    std::vector<uint16_t> taken;
    std::vector<int64_t> near;
    int64_t held = -1, held_n = -1;
    for (int64_t i = 0; i < n; ++i) {
        if (!found[i]) continue;
        if (first[i] != held || found[i] != held_n) {
            taken.assign(found[i] * areas, 0);
            held = first[i];
            held_n = found[i];
        }
        near.clear();
        for (int64_t j = 0; j < found[i]; ++j)
            if (iou[j] >= least[0]) near.push_back(j);
        if (!near.empty()) {
            for (int64_t a = 0; a < areas; ++a) {
                for (int64_t t = 0; t < n_thresholds; ++t) {
                    int64_t best = -1;
                    bool best_ignored = true;
                    for (const int64_t j : near) {
                        if (iou[j] < least[t] || taken[j * areas + a] >> t & 1) continue;
                        const bool void_ = ignored[(first[i] + j) * areas + a];
                        if (best < 0 || (best_ignored && !void_) ||
                            (best_ignored == void_ && iou[j] >= iou[best])) {
                            best = j;
                            best_ignored = void_;
                        }
                    }
                    if (best < 0) continue;
                    taken[best * areas + a] |= 1 << t;
                    (best_ignored ? vain : hit)[i * areas + a] |= 1 << t;
                }
            }
        }
        iou += found[i];
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// positions: where each id stands, by a table of all numbers from `low` on, -1 for one that is none; returns
// the first id that is not there, else n.
EXPORT int64_t fasa_positions(int64_t n, const int64_t* id, int64_t low, int64_t size, const int64_t* table,
                              int64_t* place) {
    for (int64_t i = 0; i < n; ++i) {
        const uint64_t at = static_cast<uint64_t>(id[i]) - static_cast<uint64_t>(low);
        if (at >= static_cast<uint64_t>(size) || table[at] < 0) return i;
        place[i] = table[at];
    }
    return n;
}

// Cells.find: the cell of each detection, -1 where it does not count; those of an image are told by `bounds`.
EXPORT int64_t fasa_cells(int64_t n, const int32_t* image, const int32_t* label, int64_t n_classes,
                          const int64_t* bounds, const int32_t* known, int32_t* cell) try {
    std::vector<int32_t> of_class(n_classes, -1);  // in the image of the last detection
    int64_t last = -1;
    for (int64_t i = 0; i < n; ++i) {
        if (image[i] != last) {
            if (last >= 0)
                for (int64_t c = bounds[last]; c < bounds[last + 1]; ++c) of_class[known[c]] = -1;
            last = image[i];
            for (int64_t c = bounds[last]; c < bounds[last + 1]; ++c)
                of_class[known[c]] = static_cast<int32_t>(c);
        }
        cell[i] = of_class[label[i]];
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// ordered and places: by group, best score first, then as they come. Of the groups from `low` up to `high`;
// other calls do the others, and write to the same arrays, either of which may be null.
EXPORT int64_t fasa_order(int64_t n, int64_t low, int64_t high, const int32_t* group, const double* score,
                          int64_t* order, int32_t* place) try {
    std::vector<int64_t> bounds(high - low + 1, 0), last(high - low, -1);
    bool sorted = true;
    for (int64_t i = 0; i < n; ++i) {
        bounds[0] += group[i] < low;
        if (group[i] < low || group[i] >= high) continue;
        const int64_t g = group[i] - low;
        sorted = sorted && (last[g] < 0 || score[last[g]] >= score[i]);
        last[g] = i;
        ++bounds[g + 1];
    }
    for (int64_t g = 0; g < high - low; ++g) bounds[g + 1] += bounds[g];
    std::vector<int64_t> next(bounds);
    std::vector<Item> items(sorted ? 0 : bounds.back() - bounds[0]), spare;
    for (int64_t i = 0; i < n; ++i) {
        if (group[i] < low || group[i] >= high) continue;
        const int64_t g = group[i] - low, at = next[g]++;
        if (!sorted) {
            const double value = score[i] + 0.0;  // of two zeros none is higher
            uint64_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            items[at - bounds[0]] = {bits >> 63 ? bits : ~bits & ~(uint64_t(1) << 63), i};
            continue;
        }
        if (order) order[at] = i;
        if (place) place[i] = static_cast<int32_t>(at - bounds[g]);
    }
    for (int64_t g = 0; !sorted && g < high - low; ++g) {
        Item* const mine = items.data() + (bounds[g] - bounds[0]);
        const int64_t members = bounds[g + 1] - bounds[g];
        if (static_cast<int64_t>(spare.size()) < members) spare.resize(members);
        sort(mine, spare.data(), members);
        for (int64_t i = 0; i < members; ++i) {
            if (order) order[bounds[g] + i] = mine[i].index;
            if (place) place[mine[i].index] = static_cast<int32_t>(i);
        }
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// _trace: precision at the recall points, (T, R, K), and the highest recall, (T, K), both 0 to begin with.
EXPORT int64_t fasa_trace(int64_t n_classes, const int64_t* bounds, const uint16_t* matched,
                           const uint16_t* ignored, const int64_t* n_objects, int64_t n_thresholds,
                           const double* recalls, int64_t n_recalls, double* precision, double* recall) try {
    const double eps = std::nextafter(1.0, 2.0) - 1.0;
    std::vector<std::vector<double>> highest(n_thresholds);
    std::vector<int64_t> extra(n_thresholds);
    for (int64_t k = 0; k < n_classes; ++k) {
        int64_t usual = 0;  // true and false positives at every threshold, and besides
        for (auto& one : highest) one.clear();
        std::fill(extra.begin(), extra.end(), 0);
        for (int64_t d = bounds[k]; d < bounds[k + 1]; ++d) {
            const unsigned hit = matched[d], vain = ignored[d];
            if (!vain) ++usual;
            if (!vain && !hit) continue;
            for (int64_t t = 0; t < n_thresholds; ++t) {
                if (vain && !(vain >> t & 1)) ++extra[t];
                if (!(hit >> t & 1)) continue;
                const auto tp = static_cast<double>(highest[t].size() + 1);
                highest[t].push_back(tp / (static_cast<double>(usual + extra[t]) + eps));
            }
        }
        for (int64_t t = 0; t < n_thresholds; ++t) {
            auto& mine = highest[t];
            for (std::size_t i = mine.size(); i-- > 1;) mine[i - 1] = std::max(mine[i - 1], mine[i]);
            int64_t reached = 0;
            for (std::size_t i = 0; i < mine.size(); ++i) {
                const double share = static_cast<double>(i + 1) / static_cast<double>(n_objects[k]);
                for (; reached < n_recalls && recalls[reached] <= share; ++reached)
                    precision[(t * n_recalls + reached) * n_classes + k] = mine[i];
                recall[t * n_classes + k] = share;
            }
        }
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// nearest: those pairs of detections with objects first[i], first[i] + 1, ... whose IoU is not below `least`;
// of each detection the highest first, of equals the last object, or the first.
EXPORT int64_t fasa_nearest(int64_t n, const int64_t* first, const int64_t* found, const double* iou,
                            const double* least, int64_t last_first, int64_t* det, int64_t* obj, double* out) {
    int64_t written = 0;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t begin = written;
        for (int64_t j = 0; j < found[i]; ++j, ++iou) {
            if (*iou < *least) continue;
            int64_t at = written++;  // those of a detection are few
            for (; at > begin && (last_first ? *iou >= out[at - 1] : *iou > out[at - 1]); --at) {
                obj[at] = obj[at - 1];
                out[at] = out[at - 1];
            }
            det[written - 1] = i;
            obj[at] = first[i] + j;
            out[at] = *iou;
        }
    }
    return written;
}

// drawn: masks of n objects, of all outlines of each together; how many bytes they are, -1 if they take more
// than `capacity` bytes. As pycocotools draws: five steps a pixel along each edge, of which those that cross
// a column's middle count, at the row whose middle is not above.
EXPORT int64_t fasa_draw(int64_t n, const int64_t* parts, const int64_t* length, const double* points,
                         const int64_t* sizes, int64_t capacity, char* out, int64_t* out_length) try {
    const double scale = 5;
    std::vector<int> x, y;
    std::vector<uint32_t> crossing, edges, joined;
    int64_t written = 0;
    for (int64_t i = 0; i < n; ++i) {
        const int height = static_cast<int>(sizes[2 * i]), width = static_cast<int>(sizes[2 * i + 1]);
        edges.clear();
        for (int64_t part = 0; part < parts[i]; ++part, ++length) {
            const int64_t corners = *length / 2;
            x.resize(corners + 1);
            y.resize(corners + 1);
            for (int64_t c = 0; c < corners; ++c, points += 2) {
                x[c] = static_cast<int>(scale * points[0] + .5);
                y[c] = static_cast<int>(scale * points[1] + .5);
            }
            x[corners] = x[0];
            y[corners] = y[0];
            crossing.clear();
            bool any = false;
            int last_u = 0, last_v = 0;
            for (int64_t c = 0; c < corners; ++c) {
                int xs = x[c], xe = x[c + 1], ys = y[c], ye = y[c + 1];
                const int dx = std::abs(xe - xs), dy = std::abs(ye - ys);
                const bool flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
                if (flip) {
                    std::swap(xs, xe);
                    std::swap(ys, ye);
                }
                const int steps = std::max(dx, dy);
                const double slope = !steps ? 0 : dx >= dy ? double(ye - ys) / dx : double(xe - xs) / dy;
                for (int d = 0; d <= steps; ++d) {
                    const int t = flip ? steps - d : d;
                    const int u = dx >= dy ? t + xs : static_cast<int>(xs + slope * t + .5);
                    const int v = dx >= dy ? static_cast<int>(ys + slope * t + .5) : t + ys;
                    if (any && u != last_u) {
                        const int across = u < last_u ? u : u - 1, down = std::min(v, last_v);
                        if (across >= 0 && across % 5 == 2 && across / 5 < width) {
                            const int64_t row = std::min(down <= 2 ? 0 : (down + 2) / 5, height);
                            crossing.push_back(static_cast<uint32_t>(across / 5 * int64_t(height) + row));
                        }
                    }
                    any = true;
                    last_u = u;
                    last_v = v;
                }
            }
            crossing.push_back(static_cast<uint32_t>(int64_t(height) * width));
            std::sort(crossing.begin(), crossing.end());
            if (crossing.size() % 2) crossing.pop_back();  // the rest is background
            joined.clear();  // all intervals by where they begin, those that touch as one
            for (std::size_t a = 0, b = 0; a < edges.size() || b < crossing.size();) {
                const bool mine = b >= crossing.size() || (a < edges.size() && edges[a] <= crossing[b]);
                const uint32_t* next = mine ? &edges[a] : &crossing[b];
                (mine ? a : b) += 2;
                if (next[0] == next[1]) continue;
                if (!joined.empty() && next[0] <= joined.back())
                    joined.back() = std::max(joined.back(), next[1]);
                else
                    joined.insert(joined.end(), next, next + 2);
            }
            edges.swap(joined);
        }
        const int64_t first = written;
        int64_t place = 0, runs[2] = {0, 0}, r = 0;
        const auto put = [&](int64_t run) {
            int64_t number = r > 2 ? run - runs[r % 2] : run;
            runs[r++ % 2] = run;
            for (bool more = true; more;) {
                int digit = number & 31;
                number >>= 5;
                more = digit & 16 ? number != -1 : number != 0;
                if (written < capacity) out[written] = static_cast<char>((more ? digit | 32 : digit) + 48);
                ++written;
            }
        };
        for (std::size_t e = 0; e < edges.size(); e += 2) {
            put(edges[e] - place);
            put(edges[e + 1] - edges[e]);
            place = edges[e + 1];
        }
        if (place < int64_t(height) * width || !r) put(int64_t(height) * width - place);
        out_length[i] = written - first;
        if (written > capacity) return -1;
    }
    return written;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// weighted_precision: AP under each of n_weightings rows of `weights`, at each threshold; detections by
// class.
EXPORT int64_t fasa_weighted(int64_t n_weightings, int64_t n_images, const double* weights, int64_t n_classes,
                             const int64_t* bounds, const int32_t* image, const uint16_t* matched,
                             const uint16_t* ignored, const int64_t* object_bounds,
                             const int32_t* object_image, int64_t n_thresholds, const double* recalls,
                             int64_t n_recalls, double* ap) try {
    const double eps = std::nextafter(1.0, 2.0) - 1.0;
    std::vector<std::vector<double>> found(n_thresholds), precision(n_thresholds);
    std::vector<double> tp(n_thresholds), extra(n_thresholds);
    for (int64_t b = 0; b < n_weightings; ++b, weights += n_images) {
        for (int64_t k = 0; k < n_classes; ++k, ap += n_thresholds) {
            double n_objects = 0, usual = 0;
            for (int64_t o = object_bounds[k]; o < object_bounds[k + 1]; ++o)
                n_objects += weights[object_image[o]];
            if (n_objects == 0) {
                std::fill(ap, ap + n_thresholds, std::nan(""));
                continue;
            }
            for (int64_t t = 0; t < n_thresholds; ++t) {
                found[t].clear();
                precision[t].clear();
                tp[t] = extra[t] = 0;
            }
            for (int64_t d = bounds[k]; d < bounds[k + 1]; ++d) {
                const double weight = weights[image[d]];
                if (!ignored[d]) usual += weight;
                if (!ignored[d] && !matched[d]) continue;
                for (int64_t t = 0; t < n_thresholds; ++t) {
                    if (ignored[d] && !(ignored[d] >> t & 1)) extra[t] += weight;
                    if (!(matched[d] >> t & 1)) continue;
                    tp[t] += weight;
                    found[t].push_back(tp[t]);
                    precision[t].push_back(tp[t] / (usual + extra[t] + eps));
                }
            }
            for (int64_t t = 0; t < n_thresholds; ++t) {
                auto& highest = precision[t];
                for (std::size_t i = highest.size(); i-- > 1;)
                    highest[i - 1] = std::max(highest[i - 1], highest[i]);
                double sum = 0;
                int64_t reached = 0;
                for (std::size_t i = 0; i < highest.size(); ++i) {
                    const int64_t before = reached;
                    while (reached < n_recalls && recalls[reached] <= found[t][i] / n_objects) ++reached;
                    sum += highest[i] * static_cast<double>(reached - before);
                }
                ap[t] = sum / static_cast<double>(n_recalls);
            }
        }
    }
    return 0;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}
