// The page: connects the poller, the router and the two views.

import { ConnectionStatus } from "./connection_status.js";
import { DetailView } from "./detail_view.js";
import { ListView } from "./list_view.js";
import { findChains } from "./playback.js";
import { Poller } from "./poller.js";
import { Router } from "./router.js";
import { buildItems } from "./streams.js";
import { Summary } from "./summary.js";

const status = new ConnectionStatus();
const summary = new Summary();
const listView = new ListView();
const detailView = new DetailView();
const router = new Router(showRoute);
const poller = new Poller({
  onData: showData,
  onPoll: refreshView,
  onSuccess: () => status.showSuccess(),
  onFailure: (error) => status.showFailure(error),
});

function showData(data, alerts, groups) {
  const items = buildItems(data, alerts, findChains(data.streams));
  summary.update(items, router.route);
  listView.setData(items, data.upstreams, alerts, groups);
  if (!router.route) listView.show();
}

/** Fetch what only the current view needs. */
async function refreshView() {
  if (router.route) await detailView.refresh(poller.data, poller.alerts);
  else await listView.refreshHistories();
}

function showRoute(route, previous) {
  if (route) {
    listView.hide();
    detailView.show(route, { focus: true });
    scrollTo(0, 0);
    if (poller.data !== null) refreshView().catch((error) => status.showFailure(error));
  } else {
    detailView.hide();
    listView.restore(router.listScrollY, previous);
  }
  summary.updateTitle(route);
}

function updateAges() {
  if (!status.isConnected) return;
  status.updateAge();
  if (!router.route) listView.updateAges();
}

document.getElementById("main").replaceChildren(listView.node, detailView.node);
if (router.route) detailView.show(router.route, { focus: false });
setInterval(updateAges, 1000);
poller.poll();
