import * as scrollbars from '../node_modules/react-custom-scrollbars-2/lib/index.js';

let found = scrollbars;
while (found.default) {
  found = found.default;
}
export const Scrollbars = found;
export default found;
