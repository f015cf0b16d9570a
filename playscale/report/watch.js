// Chooses the game that the player shows. A game is decoded when it is chosen.
"use strict";

class Chooser {
  constructor(games) {
    this.games = games;
    this.root = document.querySelector(".replay");
    this.player = this.root.player = new Player(this.root);
    this.agent = document.querySelector(".agent");
    this.which = document.querySelector(".which");
    this.agent.addEventListener("change", () => this.offer());
    addEventListener("hashchange", () => this.followHash());
    this.followHash();
  }

  followHash() {
    const wanted = this.games[location.hash.replace("#game-", "")] || this.games[0];
    this.agent.value = wanted.agent;
    this.offer(wanted);
  }

  // List the games of the agent, and show one of them.
  offer(wanted) {
    const own = this.games.filter((game) => game.agent === this.agent.value);
    const chosen = wanted || own.find((game) => game.role === this.game.role) || own[0];
    this.which.querySelectorAll("label").forEach((label) => label.remove());
    for (const game of own) {
      const label = document.createElement("label"), radio = document.createElement("input");
      Object.assign(radio, { type: "radio", name: "game", checked: game === chosen });
      radio.addEventListener("change", () => this.show(game));
      label.append(radio, ` ${game.label}`);
      this.which.append(label);
    }
    return this.show(chosen);
  }

  async show(game) {
    this.game = game;
    const { player } = this, part = (name) => document.querySelector(`#${name}-${game.id}`)?.textContent.trim();
    player.pause();
    player.counter.textContent = "loading the game…";
    history.replaceState(null, "", `#game-${game.id}`);
    try {
      const frames = await decode(part("frames"));
      const decisions = part("decisions") ? await decode(part("decisions")) : {};
      if (this.game !== game) return; // another was chosen meanwhile
      player.find("title").textContent = game.title;
      player.find("caption").textContent = game.caption;
      player.load({ ...decisions, ...frames });
    } catch (error) {
      player.counter.textContent = `This browser cannot show the game (${error.message}).`;
    }
  }
}

new Chooser(JSON.parse(document.querySelector("#games").textContent));
