"use strict";
// Only says that scripts run: all of the page is there without them.
document.documentElement.classList.add("js");
