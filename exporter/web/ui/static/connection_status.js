// Shows whether the exporter responds: a line in the header, and a banner while it does not.

import { ConnectionError, ResponseError } from "./api.js";
import { setText } from "./dom.js";
import { formatDuration, formatTimeOfDay } from "./units.js";

export class ConnectionStatus {
  constructor() {
    this.line = document.getElementById("connection");
    this.banner = document.getElementById("banner");
    this.isConnected = false;
    this.succeededAt = null;
  }

  showSuccess() {
    this.isConnected = true;
    this.succeededAt = Date.now() / 1000;
    this.banner.hidden = true;
    this.line.className = "";
    this.updateAge();
  }

  /** Update the age of the last response. */
  updateAge() {
    setText(this.line, `connected, updated ${formatDuration(Date.now() / 1000 - this.succeededAt)} ago`);
  }

  showFailure(error) {
    this.isConnected = false;
    setText(this.banner, this.failureText(error));
    this.banner.hidden = false;
    this.line.className = "lost";
    if (isConnectionFailure(error)) {
      setText(this.line, "no connection");
    } else {
      setText(this.line, "not updated");
      reportError(error);
    }
  }

  failureText(error) {
    if (error.status === 401 || error.status === 403) return "Authentication required; reload the page to sign in.";
    if (!isConnectionFailure(error)) return `Unexpected error; reload the page (${error.message}).`;
    if (this.succeededAt === null) return "No response from the exporter yet. Retrying.";
    const since = formatTimeOfDay(this.succeededAt);
    return `No response from the exporter since ${since}. Showing the last data received. Retrying.`;
  }
}

function isConnectionFailure(error) {
  return error instanceof ConnectionError || error instanceof ResponseError;
}
