// The report's look and its little script: text that goes into every page.
// Colours are variables, set once for light and once for dark; drawings use them too. The palette of the series is that
// of Okabe and Ito (2008), made to be told apart with any kind of colour vision, tuned for contrast on either ground.
#pragma once

namespace molt::train {

/// The address of the page's icon, inline.
extern const char* const kPageIcon;
/// The mark beside the title: an <svg>.
extern const char* const kPageMark;
/// The content of <style>.
extern const char* const kPageStyle;
/// The content of <script>: hover read-outs, legends that hide and show, the samples' filter, the copy button. The page
/// is complete without it.
extern const char* const kPageScript;

}  // namespace molt::train
