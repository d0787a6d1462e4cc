// In place of the package @partium/js-sdk: the portal's stand-in, as an ES module.
import "../../example_project/static/portal/find-sdk-stand-in.js";

export const { Partium } = window;
